// Saves checkpoints while training continues. Each rank copies what it owns and writes it from a thread of
// its own; the files become one checkpoint when all of them are on disk:
//   start()    collective: the folder is made beside its final place, copying begins
//   wait_until_copied()  before anything changes parameters or moments
//   written()  this rank's files are on disk, or could not be written
//   commit()   collective, when all ranks have written: manifest, rename, `latest`; old checkpoints are
//              deleted while training continues
// Whatever happens before the rename leaves the earlier checkpoints as they were.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "configs/train_config.h"
#include "kernels/collectives/world.h"
#include "train/checkpoint/format.h"

namespace depthroute {

class CheckpointSaver {
 public:
  /// All but the companions, which rank 0 puts beside the model, must outlive this object, and the tensors must
  /// have their memory. Takes the host memory of the copy,
  /// snapshot_bytes(), and touches it: a run that has no room for its checkpoints does not begin. On a GPU also
  /// two page-locked buffers (DeviceCopy). SystemError.
  CheckpointSaver(World& world, const TrainConfig& config, const CheckpointTensors& tensors,
                  Companions companions = {});
  CheckpointSaver(World& world, const TrainConfig& config, const TrainingStep& step,
                  Companions companions = {})
      : CheckpointSaver(world, config, checkpoint_tensors(step), std::move(companions)) {}
  /// Gives up what is not committed, within a MiB's writing and flushing; waits until old checkpoints are
  /// deleted.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Starts copying and writing. Collective; not while active(). All parameters must be current on every rank
  /// (TrainingStep::gather_parameters()). Throws (on all ranks) if the folder cannot be made, is not visible
  /// to all ranks, or memory is short.
  void start(const RunState& state);
  /// Between start() and commit().
  bool active() const;
  /// Returns when the copy is complete; helps with it. At once when not active().
  void wait_until_copied();
  /// Whether this rank's writer is done, one way or the other. Does not wait.
  bool written() const;
  /// What becomes of the checkpoints before: the oldest beyond checkpoint.keep are deleted, or none.
  enum class Earlier { prune, keep_all };
  /// Waits for all writers, makes their files a checkpoint and returns its path. Collective, while active().
  /// SystemError (by World::together) if a rank could not write: nothing remains of the checkpoint.
  std::string commit(Earlier earlier = Earlier::prune);

  /// Host memory of the copy on the rank that needs most: 12 bytes a parameter in all, divided among ranks.
  static int64_t snapshot_bytes(const ParameterLayout& layout, const Partition& partition);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace depthroute
