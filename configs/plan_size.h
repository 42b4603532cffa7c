// Whether the memory that training plans can be counted at all, before anything is read.
#pragma once

#include <string>

#include "configs/train_config.h"

namespace depthroute {

/// An upper bound of the bytes that training with config.model plans, on any device, on any number of
/// processes.
double plan_bytes_bound(const TrainConfig& config);

/// "" if all sizes that training with config.model plans stay within int64, and its list of gradient buckets
/// within reason; otherwise one line. Config.model is one that ModelConfig::problem() has nothing against.
std::string size_problem(const TrainConfig& config);

}  // namespace depthroute
