// One training step: model, optimizer and their memory, without files, logs or resuming. The trainer runs it
// in a loop, benchmarks run it by itself; on one rank or on one of several.
//
// A step's micro-batches are dealt, in order, to P slices: one per rank, or distributed.shards of them in
// deterministic mode (Partition's pieces). A rank computes consecutive slices. Each slice's gradient is
// summed by itself; slices are added in a pairwise tree, first those of a rank, then, bucket by bucket while
// its last backward pass still runs, those of all ranks (GradientSum). Updated parameters travel while the next
// step's first forward pass runs (ParameterGather).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "configs/train_config.h"
#include "kernels/arena.h"
#include "kernels/collectives/collectives.h"
#include "kernels/device.h"
#include "kernels/replay.h"
#include "kernels/staging_memory.h"
#include "train/batches.h"
#include "train/model/qwen3.h"
#include "train/sharding/adamw.h"
#include "train/sharding/gradient_sum.h"
#include "train/sharding/parameter_gather.h"
#include "train/sharding/partition.h"

namespace depthroute {

struct StepResult {
  double loss = 0;       // nats per target token, mean over the global batch
  double grad_norm = 0;  // before clipping
  double lr = 0;
  bool applied = false;        // false: loss or norm was not finite, parameters and moments are unchanged
  std::vector<int64_t> flags;  // StepHooks::flag() of every rank
};

/// What the caller does within a step.
struct StepHooks {
  std::function<int64_t()> flag;        // a number that all ranks learn with this step's result
  std::function<void()> before_update;  // called before parameters and moments change
};

/// ConfigError unless a step can be divided among this many ranks.
void check_ranks(const TrainConfig& config, int ranks);

class TrainingStep {
 public:
  /// Plans all memory; allocates none. `config.model` is the shape. Call allocate(), then fill parameters(),
  /// then run(). For a single rank.
  TrainingStep(const TrainConfig& config, Device device);
  /// For one rank of a job; `collectives` must outlive the step. run() is collective.
  TrainingStep(const TrainConfig& config, Device device, Collectives& collectives);
  ~TrainingStep();
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  /// SystemError if the device's memory is too small; ConfigError if train.cuda_graph cannot work on it.
  void allocate();
  /// Instead of allocate(): run() may then be called to count its work (kernels/cost/scope.h).
  void reserve_addresses();

  /// Runs step t, 1-based: sums the gradients of the source's micro-batches in order, clips, updates. With
  /// several ranks, parameters are complete after finish_update(); run() and evaluate() see to that themselves.
  StepResult run(int64_t t, const BatchSource& batch, const StepHooks& hooks = {});
  /// Runs one micro-batch of made-up tokens, forward and backward, and waits for it: what is measured or loaded at
  /// its first use is measured and loaded then. Changes nothing that a step reads before it writes it. Not
  /// collective.
  void rehearse();
  /// Returns the sum of the negative log-likelihood over sequences [first, first + count) of `batch`, count
  /// <= micro_batch. Forward only; afterwards model().trace() is that of these sequences. Not collective.
  double evaluate(int64_t first, int64_t count, const BatchSource& batch);
  /// Waits for the parameters of other ranks that the last step left under way. Before ranks go separate ways, as
  /// in validation, all call it: a rank that is gone is noticed here.
  void finish_update();
  /// Makes all float32 parameters current on every rank. Collective. With bf16 copies of the matrices, a step
  /// updates the float32 matrices only on the rank that owns them.
  void gather_parameters();

  Stream stream() const { return stream_; }
  const Arena& arena() const { return arena_; }
  const Qwen3& model() const { return model_; }
  const ParameterLayout& layout() const { return model_.layout(); }
  const AdamW& optimizer() const { return optimizer_; }
  /// What this rank owns: the ranges of the block that m() and v() belong to.
  const Partition& partition() const { return partition_; }
  Collectives& collectives() const { return collectives_; }

 private:
  /// Views of the device's batch, [count, seq_len].
  struct DeviceBatch {
    Tensor tokens, targets;
  };
  /// Makes what batches are read into, and what ranks report into.
  void make_host_buffers(Device copied_to);
  int64_t slice_begin(int64_t slice) const;
  DeviceBatch upload(int64_t first, int64_t count, const BatchSource& batch);
  void micro_batch(const DeviceBatch& batch, float grad_scale, const ParametersNeeded& needed,
                   const GradientsReady& ready);
  void accumulate_slice(int index, const BatchSource& batch, float grad_scale);
  void exchange_slices(const StepHooks& hooks);
  void update(int64_t t, double lr);
  double read_total();
  /// An element of slices_, in the row of this rank's index-th slice, as a [1] tensor.
  Tensor slice_value(int index, int64_t column) const;

  TrainConfig config_;
  Collectives& collectives_;
  Stream stream_;
  Arena arena_;
  Partition partition_;
  Qwen3 model_;
  AdamW optimizer_;
  GradientSum sum_;
  ParameterGather gather_;
  Tensor tokens_, targets_;  // [micro_batch, seq_len] i32
  Tensor total_;             // [1] f64: sum of nll
  /// [slices, 1 + buckets + 1] f64: a slice's sum of nll; the sums of squares of its piece of every bucket;
  /// the rank's flag (in the first of its rows).
  Tensor slices_;
  Tensor loss_;  // [1] f64: sum of nll over the step
  Tensor norm_;  // [1] f32: of the whole gradient
  Tensor workspace_;
  Replay replay_;  // of micro_batch()
  /// Tokens and targets of all micro-batches of a step that this rank computes, each in a place of its own: what
  /// the device has still to copy is not overwritten before the end of run() or evaluate(), which wait for it.
  StagingMemory inputs_;
  int64_t inputs_used_ = 0;  // int32 elements
  std::vector<double> host_slices_;
};

}  // namespace depthroute
