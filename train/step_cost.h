// --dry-run --card: what a step's kernels read, write and compute, and how long a GPU should take for it. The
// counted code is TrainingStep itself, for bf16 on one GPU unless the configuration says otherwise.
#pragma once

#include <string>

#include "configs/train_config.h"
#include "kernels/cost/cards.h"
#include "kernels/cost/scope.h"

namespace depthroute {

/// The kernels of steps 2 ... of a run on a GPU, whatever this machine is. The first step also prepares the
/// model.
struct StepCost {
  cost::Log micro_batch;  // one of them: forward, backward, loss
  cost::Log update;       // once a step: clearing gradients, their norm, the optimizer
};
StepCost count_step(const TrainConfig& config, const cost::Options& options = {});

/// The section of the dry run's report: a table of kernels, the predicted step, and what routing adds to the
/// same model with plain residuals.
std::string describe_step_cost(const TrainConfig& config, const cost::Card& card);

}  // namespace depthroute
