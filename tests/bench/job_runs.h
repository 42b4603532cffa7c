// Timed training steps of a job of several ranks: how much of the communication training hides, and what
// saving a checkpoint during training costs. All calls are collective.
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

/// Steps, and what communication took per step, averaged over ranks.
struct Communication {
  std::vector<double> seconds;  // of every step
  double busy = 0;              // seconds in collectives, including waiting for the slowest rank
  double exposed = 0;           // of these, seconds that the step waited
  double bytes = 0;             // that a rank sent
};

/// Consecutive steps, with one checkpoint or none.
struct Stretch {
  double total = 0;  // seconds, including start and commit of the checkpoint
  double start = 0, commit = 0;
  /// Seconds of the steps during which a checkpoint was, or was not, being saved.
  std::vector<double> saving, plain;
  bool outlasted = false;  // whether the checkpoint took longer than the steps
};

struct Stalls {
  std::vector<Stretch> without, with;  // in turns; the first and the last are `without`
  std::vector<double> synchronous;     // seconds of start() and commit() without any steps
};

class JobBench {
 public:
  /// Allocates and initialises the model. `world` must outlive this object.
  JobBench(World& world, const TrainConfig& config, Device device);

  Communication run(int64_t warm_up, int64_t steps);
  /// Saves `rounds` checkpoints during training, then as many without it, into config.output/checkpoints.
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
  std::vector<int32_t> tokens_, targets_;  // one micro-batch, which every rank computes repeatedly
  bool all_written_ = false;               // according to the last step's flags
};

}  // namespace depthroute::bench
