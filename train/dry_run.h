// --dry-run: what a run will compute, hold in memory and read, without doing any of it.
#pragma once

#include <string>

#include "configs/train_config.h"
#include "train/step.h"

namespace depthroute {

/// Parameters in all and by kind: embedding, attention, mlp, norms, routing. One line.
std::string describe_parameters(const ParameterLayout& layout);
/// The arena by purpose, the checkpoint copy in host memory, and what else the process needs. Several lines.
std::string describe_memory(const TrainingStep& step);
/// The whole report. `config.model` is the shape to be trained. Notes missing data files, but
/// refuses malformed ones (DataError). Allocates and writes nothing.
std::string dry_run_report(const TrainConfig& config);

}  // namespace depthroute
