// One training step: model, optimiser and their memory, and nothing of files, logs or resuming. What the
// trainer runs in a loop and what benchmarks run by itself.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/train_config.h"
#include "kernels/arena.h"
#include "kernels/device.h"
#include "kernels/replay.h"
#include "train/batches.h"
#include "train/model/qwen3.h"
#include "train/optimizer.h"

namespace depthroute {

struct StepResult {
  double loss = 0;       // nats per target token, mean over the global batch
  double grad_norm = 0;  // before clipping
  double lr = 0;
  bool applied = false;  // false: loss or norm was not finite, parameters and moments are as before
};

class TrainingStep {
 public:
  /// Plans all memory; takes none. `config.model` is the shape. Call allocate(), then fill parameters(), then
  /// run().
  TrainingStep(const TrainConfig& config, Device device);
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  void allocate();

  /// Step t, 1-based: micro-batches of the source in order, gradients summed, clipped, one update.
  StepResult run(int64_t t, const BatchSource& batch);
  /// Sum of the negative log-likelihood over sequences [first, first + count) of `batch`, count <=
  /// micro_batch. Forward only; afterwards model().trace() is that of these sequences.
  double evaluate(int64_t first, int64_t count, const BatchSource& batch);

  Stream stream() const { return stream_; }
  const Arena& arena() const { return arena_; }
  const Qwen3& model() const { return model_; }
  const ParameterLayout& layout() const { return model_.layout(); }
  const AdamW& optimizer() const { return optimizer_; }

 private:
  /// Reads sequences into the device's batch; views of it, [count, seq_len].
  struct DeviceBatch {
    Tensor tokens, targets;
  };
  DeviceBatch upload(int64_t first, int64_t count, const BatchSource& batch);
  void micro_batch(const DeviceBatch& batch, float grad_scale);
  double read_total();

  TrainConfig config_;
  Stream stream_;
  Arena arena_;
  Qwen3 model_;
  AdamW optimizer_;
  Tensor tokens_, targets_;  // [micro_batch, seq_len] i32
  Tensor total_;             // [1] f64: sum of nll
  Replay replay_;            // of micro_batch()
  std::vector<int32_t> host_tokens_, host_targets_;
};

}  // namespace depthroute
