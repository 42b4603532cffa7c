// One training step: model, optimiser and their memory, and nothing of files, logs or resuming. What the
// trainer runs in a loop and what benchmarks run by itself; alone, or as one of several processes.
//
// A step's micro-batches are dealt to P parts (Partition: one per process, or distributed.shards of them in
// deterministic mode), in order; a process computes the parts of its rank. Each part's gradient is summed by
// itself; parts are added in a pairwise tree, first those of a process, then, bucket by bucket while its last
// backward pass still runs, over processes.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "configs/train_config.h"
#include "kernels/arena.h"
#include "kernels/collectives/collectives.h"
#include "kernels/device.h"
#include "kernels/replay.h"
#include "train/batches.h"
#include "train/model/qwen3.h"
#include "train/sharding/adamw.h"
#include "train/sharding/gradient_sum.h"
#include "train/sharding/partition.h"

namespace depthroute {

struct StepResult {
  double loss = 0;       // nats per target token, mean over the global batch
  double grad_norm = 0;  // before clipping
  double lr = 0;
  bool applied = false;        // false: loss or norm was not finite, parameters and moments are as before
  std::vector<int64_t> flags;  // StepHooks::flag() of every process, by rank
};

/// What the caller does within a step.
struct StepHooks {
  std::function<int64_t()> flag;        // a number the other processes learn with this step's result
  std::function<void()> before_update;  // parameters and moments change after it
};

/// ConfigError unless a step can be dealt to this many processes.
void check_processes(const TrainConfig& config, int processes);

class TrainingStep {
 public:
  /// Plans all memory; takes none. `config.model` is the shape. Call allocate(), then fill parameters(), then
  /// run(). One process.
  TrainingStep(const TrainConfig& config, Device device);
  /// This process's part of a job; `collectives` must outlive the step. run() is then collective.
  TrainingStep(const TrainConfig& config, Device device, Collectives& collectives);
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  void allocate();

  /// Step t, 1-based: micro-batches of the source in order, gradients summed, clipped, one update.
  StepResult run(int64_t t, const BatchSource& batch, const StepHooks& hooks = {});
  /// Sum of the negative log-likelihood over sequences [first, first + count) of `batch`, count <=
  /// micro_batch. Forward only; afterwards model().trace() is that of these sequences. Not collective.
  double evaluate(int64_t first, int64_t count, const BatchSource& batch);
  /// Makes the float32 parameters current in full, collectively: where copies of less precision are computed
  /// with, a step leaves every process those it owns.
  void gather_parameters();

  Stream stream() const { return stream_; }
  const Arena& arena() const { return arena_; }
  const Qwen3& model() const { return model_; }
  const ParameterLayout& layout() const { return model_.layout(); }
  const AdamW& optimizer() const { return optimizer_; }
  /// What this process owns: the moments m() and v() are of these parts of the block.
  const Partition& partition() const { return partition_; }
  Collectives& collectives() const { return collectives_; }

 private:
  /// Reads sequences into the device's batch; views of it, [count, seq_len].
  struct DeviceBatch {
    Tensor tokens, targets;
  };
  DeviceBatch upload(int64_t first, int64_t count, const BatchSource& batch);
  void micro_batch(const DeviceBatch& batch, float grad_scale, const GradientsReady& ready);
  void accumulate_part(int index, const BatchSource& batch, float grad_scale);
  void exchange_parts(const StepHooks& hooks);
  void update(int64_t t, double lr);
  double read_total();
  /// This process's row of parts_ of its index-th part, as [1] elements.
  Tensor part_value(int index, int64_t column) const;

  TrainConfig config_;
  Collectives& collectives_;
  Stream stream_;
  Arena arena_;
  Partition partition_;
  Qwen3 model_;
  AdamW optimizer_;
  GradientSum sum_;
  Tensor tokens_, targets_;  // [micro_batch, seq_len] i32
  Tensor total_;             // [1] f64: sum of nll
  /// [pieces, 1 + buckets + 1] f64: a part's sum of nll; the sums of squares of its piece of every bucket;
  /// the process's flag (in the first of its rows).
  Tensor parts_;
  Tensor loss_, norm_;  // [1] f64, [1] f32: of the step
  Tensor workspace_;
  Replay replay_;  // of micro_batch()
  std::vector<int32_t> host_tokens_, host_targets_;
  std::vector<double> host_parts_;
};

}  // namespace depthroute
