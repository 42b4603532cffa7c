// Runs the clean model and the cells over the same tokens, tokens in the outer loop (eval/SPEC.md §3). One
// clean pass per batch leaves its states in place; cells follow by descending first touched site, so each
// starts from them. Which rank runs what is decided in work_plan.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/token_stream.h"
#include "eval/cells/site_change.h"
#include "eval/measure/contents.h"
#include "kernels/arena.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// One thing to compare with the clean run.
struct Comparison {
  std::string name;
  int first_site = 0;                        // no change touches a site before it
  std::span<const SiteChange> site_changes;  // one per site of the plan
};

/// What a comparison changes against the clean run: same tokens, same kernels, same batch. Sums over each
/// sequence's tokens.
struct Outcome {
  std::vector<double> delta_nll;  // [sequence] nats
  std::vector<double> kl;         // [sequence] KL(clean || ablated), nats
  std::vector<double> flips;      // [sequence] tokens whose most likely next token changed
  double largest_change = 0;      // max over tokens of |delta nll| and KL; NaN if any of them is NaN

  /// Appends the outcome of the sequences that follow.
  void append(const Outcome& next);
};

/// One sum per sequence of an Outcome. Whatever copies, stores, reads or estimates outcomes goes through
/// kOutcomeSums: a new quantity is a member, a line here, and its sum in Evaluator::compare().
struct OutcomeSum {
  std::vector<double> Outcome::*values;
  const char *name, *units, *long_name;
};
inline constexpr OutcomeSum kOutcomeSums[] = {
    {&Outcome::delta_nll, "delta_nll", "nats", "sum over tokens of the change of nll"},
    {&Outcome::kl, "kl", "nats", "sum over tokens of the divergence"},
    {&Outcome::flips, "flips", "1", "tokens whose most likely next token changed"},
};

/// Sequences [first, first + size) of the evaluation.
struct SequenceRange {
  int64_t first = 0, size = 0;
  bool operator==(const SequenceRange&) const = default;
};

class Evaluator {
 public:
  /// Plans its own tensors in the arena the model was planned in; allocate() it before start().
  /// `needs`: what the comparisons will need, of contents that are there without calibration.
  Evaluator(Qwen3& model, Arena& arena, const ContentNeeds& needs = {}, const ResampleConfig& resample = {});
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Runs the clean pass over windows of seq_len + 1 tokens, at most micro_batch of them. The model's trace()
  /// is theirs from then on.
  void start(Stream stream, const TokenStream& tokens, const SequenceRange& batch);
  /// [sequence, token] nats, of the batch started.
  const std::vector<float>& clean_nll() const { return clean_nll_; }
  /// Compares on the batch started. First sites must not rise from one call to the next.
  Outcome compare(Stream stream, const Comparison& comparison);

  const Qwen3& model() const { return model_; }

  /// Returns what one comparison costs in forward passes: the share of sites from first_site on, plus that of
  /// the output head.
  static double cost(const ModelConfig& config, int64_t seq_len, int first_site);

 private:
  void load(Stream stream, const TokenStream& tokens);
  /// Compares the model's last forward pass with the clean one, into the host buffers.
  void compare_heads(Stream stream);
  int64_t rows() const { return batch_.size * model_.options().seq_len; }

  Qwen3& model_;
  Contents contents_;
  Tensor tokens_, targets_;          // [B,T] i32
  Tensor clean_hidden_;              // [N,D]
  Tensor nll_, kl_, flipped_, hit_;  // [N]
  Tensor workspace_;
  SequenceRange batch_;
  int valid_sites_ = 0;  // states of the sites before this one are the clean pass's
  std::vector<float> clean_nll_;
  std::vector<int32_t> host_tokens_, host_targets_, host_flipped_;
  std::vector<float> host_nll_, host_kl_;
};

/// Returns indices of the comparisons by descending first site, equal ones in their order.
std::vector<int> descending_order(std::span<const Comparison> comparisons);

}  // namespace depthroute
