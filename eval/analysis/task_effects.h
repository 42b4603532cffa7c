// Metrics of a task with intervals: of the clean run, of every comparison, and its change, from the draws that all
// other estimates are made of.
#pragma once

#include "eval/analysis/findings.h"

namespace depthroute {

/// Fills task, clean_task and task_effects if the sequences are requests of a task.
void analyze_task(Results& results, const BootstrapOptions& options, BootstrapMemory& memory);

}  // namespace depthroute
