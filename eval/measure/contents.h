// What interventions put in the place of clean contents (eval/SPEC.md §2): means over the calibration data,
// copies of the clean pass's states and weights, other sequences' states (donors), and token masks. Cells say
// what they need without tensors (SiteChange); resolve() turns that into tensors for one batch.
//
// Use: Contents contents(model, needs, resample, arena);  arena.allocate();
//      contents.calibrate(stream, batches);                       // if needs.calibration()
//      per batch: model.forward(clean); contents.snapshot(stream, sequences);
//      per comparison and repeat: model.forward(stream, tokens, contents.resolve(stream, changes, repeat), ...)
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "configs/eval_config.h"
#include "eval/cells/site_change.h"
#include "kernels/arena.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// The contents that lists of changes need; memory is planned for exactly those.
struct ContentNeeds {
  std::set<int> means, position_means;           // states S_i, whose means over the calibration data
  std::set<int> mean_weights, position_weights;  // sites, likewise
  std::set<int> donor_states;                    // states that other sequences' copies of are read
  std::set<int> held_weights;                    // sites whose clean weights are read
  std::set<TokenRange> tokens;                   // but for all()
  int64_t donor_slots = 0;                       // most donor states of one list of changes

  /// Adds what `changes`, one per site of the plan, need.
  void add(const DepthPlan& plan, std::span<const SiteChange> changes);
  bool calibration() const;
  bool donors() const { return !donor_states.empty(); }
};

/// A sequence of a batch, as far as contents depend on it. Views, valid during the call.
struct BatchSequence {
  int64_t number = 0;  // among all sequences of the evaluation
  int64_t length = 0;  // positions before padding, >= 1
  /// Documents it has tokens of, ascending. Sequences that share one are not each other's donors.
  std::span<const int64_t> documents;
  std::span<const int64_t> document_starts;  // positions of their first tokens, ascending
};

/// Checks that every sequence of a batch has `donors` others without a common document. ConfigError naming the
/// sequence and what to do.
void check_donors(std::span<const BatchSequence> batch, int64_t donors);

/// Returns the places in the batch of a sequence's donors, one for each repeat, in an order that depends on
/// the seed and the sequences' numbers alone. All sequences of the batch that share no document with it.
std::vector<int> donor_order(std::span<const BatchSequence> batch, int place, uint64_t seed);

/// Sequences to calibrate on.
struct CalibrationBatch {
  std::vector<int32_t> tokens;   // [sequence, seq_len], at most micro_batch sequences
  std::vector<int64_t> lengths;  // [sequence] positions that count; the rest is padding
};
/// Fills the next batch, or returns false after the last one.
using CalibrationBatches = std::function<bool(CalibrationBatch&)>;

class Contents {
 public:
  /// Plans its tensors in the arena the model was planned in. The model outlives this; it must have
  /// Qwen3Options::interventions if anything but offsets and scales is to be resolved.
  Contents(Qwen3& model, const ContentNeeds& needs, const ResampleConfig& resample, Arena& arena);
  Contents(const Contents&) = delete;
  Contents& operator=(const Contents&) = delete;

  const ContentNeeds& needs() const { return needs_; }

  /// Runs clean passes over calibration data and keeps the float64 means of the needed states and weights,
  /// rounded to the type they are read in. Each position's mean is over the sequences that reach it; one that
  /// none reaches gets the mean over all positions. ConfigError if there are no tokens.
  void calibrate(Stream stream, const CalibrationBatches& next);

  /// Keeps what the clean pass the model has just run left: the needed states and weights, for as long as the
  /// batch is measured. Chooses the donors and builds the token masks.
  void snapshot(Stream stream, std::span<const BatchSequence> batch);

  /// Returns what the model is to do at each site. Contents of donors are those of `repeat` (0, 1, ...; below
  /// resample.donors) and are overwritten by the next call; everything else stays as long as the batch.
  std::vector<SiteIntervention> resolve(Stream stream, std::span<const SiteChange> changes, int64_t repeat);

 private:
  /// Which mean over the calibration data: of a state or of a site's weights.
  struct MeanKey {
    bool of_weights = false, by_position = false;
    int index = 0;
    auto operator<=>(const MeanKey&) const = default;
  };
  struct Mean {
    Tensor sums;   // [C] or by position [T*C], f64
    Tensor value;  // [1,C] or by position [T,C]; act of a state, f32 of weights
  };

  void plan_means(Arena& arena);
  void run_calibration(Stream stream, const CalibrationBatch& batch);
  void accumulate(Stream stream, const CalibrationBatch& batch, const MeanKey& key, const Mean& mean);
  void finish_mean(Stream stream, const MeanKey& key, const Mean& mean);
  const Tensor& mean_of(const MeanKey& key) const;
  void build_masks(Stream stream, std::span<const BatchSequence> batch);
  Tensor donor_content(Stream stream, int state, int64_t repeat, const Tensor& slot) const;
  Tensor content(Stream stream, int site, const Substitution& substitution, int64_t repeat,
                 std::map<int, Tensor>& donated);
  Tensor weights(int site, WeightSource source) const;
  int64_t seq_len() const { return model_.options().seq_len; }

  Qwen3& model_;
  const ContentNeeds needs_;
  const ResampleConfig resample_;

  std::map<MeanKey, Mean> means_;
  std::vector<int64_t> counts_;  // [T] calibration sequences that reach a position; empty: not calibrated
  Tensor tokens_, counted_;      // [B,T] and [N] i32, of a calibration batch
  Tensor workspace_, staging_;   // of column sums; f32 on the way to bf16

  std::map<int, Tensor> clean_states_, clean_weights_;  // [N,D] act by state, [N,n] f32 by site
  std::vector<Tensor> donor_slots_;                     // [N,D] act
  std::map<TokenRange, Tensor> masks_;                  // [N] i32
  std::vector<int64_t> lengths_;                        // of the batch's sequences
  std::vector<std::vector<int>> donors_;                // places in the batch, by sequence and repeat
};

}  // namespace depthroute
