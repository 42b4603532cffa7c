// Runs the clean model and the cells over the same tokens, tokens in the outer loop (eval/SPEC.md §4). One
// clean pass per batch leaves its states in place; cells follow by descending first touched site, so each
// starts from them. Which rank runs what is decided in work_plan.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/cells/site_change.h"
#include "eval/measure/columns.h"
#include "eval/measure/contents.h"
#include "eval/sequences/sequences.h"
#include "kernels/arena.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// One thing to compare with the clean run.
struct Comparison {
  std::string name;
  std::string hash;                     // of what is done; equal for equal interventions
  int first_site = 0;                   // no change touches a site before it
  std::span<const SiteChange> changes;  // one per site of the plan, or none: clean
  int64_t repeats = 1;                  // passes it takes: one per donor
  uint64_t donor_seed = 0;              // of the choice of donors
  bool per_token = false;               // keeps the change of every token
  bool uses_donors() const;
};

/// Sequences [first, first + size) of the evaluation.
struct SequenceRange {
  int64_t first = 0, size = 0;
  bool operator==(const SequenceRange&) const = default;
};

/// What is measured of the clean run beside what always is.
struct CleanOptions {
  bool all_weights = false;     // every single weight
  bool edge_estimates = false;  // the first-order estimate of every edge
};

/// Passes that share one reading of the output head.
inline constexpr int64_t kComparedAtOnce = 8;

class Evaluator {
 public:
  /// Plans its own tensors in the arena the model was planned in; allocate() it before start(). Compares with
  /// changes whose contents `needs` lists; the model needs Qwen3Options::interventions if there are any.
  Evaluator(Qwen3& model, const ContentNeeds& needs, const ResampleConfig& resample, Arena& arena);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Takes the means that contents need over the calibration data. Before the first start().
  void calibrate(Stream stream, const Sequences& calibration);
  /// Runs the clean pass over a batch of at most micro_batch sequences. The model's trace() is theirs from
  /// then on. `sequences` must live until the last compare().
  void start(Stream stream, const Sequences& sequences, const SequenceRange& batch);
  /// Measures the clean pass of the batch started. Call it before compare(). `weights`: [site, sequence,
  /// token, source] as kWeightFill says, if asked for.
  CleanValues clean(Stream stream, const CleanOptions& options, std::vector<uint16_t>* weights = nullptr);
  /// Compares on the batch started, one outcome for each. First sites must not rise from one comparison to the
  /// next, nor from one call to the next. The output head is read once for up to kComparedAtOnce passes and the
  /// clean run together; no result depends on how many there are.
  std::vector<Outcome> compare(Stream stream, std::span<const Comparison* const> comparisons);

  const Qwen3& model() const { return model_; }
  const SequenceRange& batch() const { return batch_; }
  /// No comparison of the batch started may begin later than here.
  int valid_sites() const { return valid_sites_; }

  /// Returns what one of many comparisons costs in forward passes: the share of sites from first_site on, plus
  /// its output head and a share of the clean run's.
  static double cost(const ModelConfig& config, int64_t seq_len, int first_site);

 private:
  void load(Stream stream);
  void snapshot(Stream stream);
  /// A pass whose hidden states wait for the output head.
  struct Pass {
    const Comparison* comparison;
    Outcome* outcome;
    double* largest_change;
    int64_t repeat;
  };
  /// Adds the sums of the pass at `place` of the host buffers to its outcome.
  void add_sums(size_t place, const Pass& pass) const;
  bool keeps_donors(const Comparison& comparison) const;
  void estimate_edges(Stream stream, std::vector<double>& sums);
  /// Compares the hidden states of `passes` passes with the clean ones, into the host buffers [pass, N].
  void compare_heads(Stream stream, size_t passes);
  /// The output head of all waiting passes, added to their outcomes.
  void flush(Stream stream, std::vector<Pass>& passes);
  /// Adds up each site's weights over the tokens that count, from `first_site` on, into sums [site, source].
  void sum_weights(Stream stream, int first_site, std::vector<double>& sums);
  int64_t rows() const { return batch_.size * model_.options().seq_len; }
  std::span<const Segment> segments() const { return sequences_->segments_of(batch_.first, batch_.size); }

  Qwen3& model_;
  Contents contents_;
  const Sequences* sequences_ = nullptr;
  Tensor tokens_, targets_, counts_;  // [B,T] i32, [N] i32, [N] i32: 1 where the target counts
  Tensor clean_hidden_;               // [N,D]
  Tensor hidden_;                     // [kComparedAtOnce N, D] of the waiting passes
  Tensor nll_, kl_, flipped_, hit_;   // [kComparedAtOnce N]
  Tensor weight_sums_;                // [sources of all sites] f64
  Tensor shares_[3];                  // [N, max_sources]
  Tensor workspace_;
  SequenceRange batch_;
  int valid_sites_ = 0;  // states of the sites before this one are the clean pass's
  std::vector<double> clean_weight_sums_;
  std::vector<int32_t> host_tokens_, host_targets_, host_flipped_, host_hit_, clean_hit_;
  std::vector<float> host_nll_, host_kl_, clean_nll_;
};

/// Returns indices of the comparisons by descending first site, equal ones in their order.
std::vector<int> descending_order(std::span<const Comparison> comparisons);

}  // namespace depthroute
