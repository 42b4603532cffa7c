// The training loop: steps, metrics, validation, checkpoints, stopping and resuming.
#pragma once

#include "configs/train_config.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Trains until train.steps and returns kExitOk, or until a signal asked to stop and returns
/// kExitInterrupted, with a checkpoint either way. Bad input is found before anything is written.
/// TrainingError after train.max_bad_steps non-finite steps in a row. Collective; rank 0 logs.
int train(World& world, const TrainConfig& config);

}  // namespace depthroute
