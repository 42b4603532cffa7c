// Training steps of a job of several processes, timed: how much of the communication training hides, and what
// a checkpoint saved beside it costs. Everything here is collective.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "configs/train_config.h"
#include "kernels/collectives/world.h"
#include "train/checkpoint/saver.h"
#include "train/step.h"

namespace depthroute::bench {

double median_of(std::vector<double> values);

/// Steps, and per step what communication took, mean over processes.
struct Communication {
  std::vector<double> seconds;  // of every step
  double busy = 0;              // seconds in calls; waiting for the slowest process is part of it
  double exposed = 0;           // of these, seconds the step stood still
  double bytes = 0;             // a process sent
};

/// K steps in a row, with one checkpoint or none.
struct Stretch {
  double total = 0;  // seconds, start and commit of the checkpoint included
  double start = 0, commit = 0;
  std::vector<double> saving, plain;  // seconds of the steps during which one was and was not being saved
  bool outlasted = false;             // the checkpoint took longer than the steps: commit() waited for it
};

struct Stalls {
  std::vector<Stretch> without, with;  // in turns, beginning and ending with one `without`
  std::vector<double> synchronous;     // seconds of start() and commit() at once, nothing beside them
};

class JobBench {
 public:
  /// Allocates and initialises the model. `world` must outlive this object.
  JobBench(World& world, const TrainConfig& config, Device device);

  Communication run(int64_t warm_up, int64_t steps);
  /// `rounds` checkpoints beside training, then as many without, into config.output/checkpoints.
  Stalls run_saving(int64_t rounds, int64_t steps);

  const TrainingStep& step() const { return step_; }
  const Collectives& collectives() const { return *collectives_; }

 private:
  double one_step();  // seconds
  Stretch stretch(int64_t steps, bool save);

  World& world_;
  TrainConfig config_;
  std::unique_ptr<Collectives> collectives_;
  TrainingStep step_;
  std::optional<CheckpointSaver> saver_;
  RunState state_;
  std::vector<int32_t> tokens_, targets_;  // one micro-batch, that every process computes over and over
  bool all_written_ = false;               // said with the last step's result
};

}  // namespace depthroute::bench
