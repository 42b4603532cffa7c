// Checks that the memory of a training run can be counted in int64, before anything is read.
#pragma once

#include <string>

#include "configs/train_config.h"

namespace depthroute {

/// Returns an upper bound of the bytes that training with config.model plans on any device and number of
/// ranks.
double plan_bytes_bound(const TrainConfig& config);

/// Returns "" if every size that training with config.model plans fits int64 and the number of gradient
/// buckets is reasonable, otherwise one line. config.model must have passed ModelConfig::problem().
std::string size_problem(const TrainConfig& config);

}  // namespace depthroute
