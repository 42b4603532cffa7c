// Settles, before the first step, which algorithm computes each matrix product of a run.
#pragma once

#include <string>
#include <vector>

#include "configs/train_config.h"
#include "kernels/collectives/world.h"
#include "train/start.h"
#include "train/step.h"

namespace depthroute {

/// Rank 0 decides for all ranks: by <output>/gemm_choices.json if it knows this device and library (or by that of
/// the run whose checkpoint is `start`), otherwise by timing a micro-batch of made-up tokens, if train.tune_products
/// and not `deterministic`: no two runs measure alike. What was decided, perhaps the library's own choice, is
/// written to the file, and holds whenever the run goes on there. Products that the micro-batch lacks, and all
/// products of ranks with another device or library, get the library's first candidates.
///
/// Call with the run's lock held, before any step; `step` has its memory, and only what a step writes before it
/// reads it changes. Collective. Returns lines for the log on rank 0. DataError if the file is damaged.
std::vector<std::string> settle_products(World& world, const TrainConfig& config, const Start& start,
                                         TrainingStep& step);

}  // namespace depthroute
