// What a person reads on the terminal: the plan of a dry run, and the results.
#pragma once

#include <string>
#include <vector>

#include "eval/results/results_file.h"
#include "eval/setup.h"
#include "kernels/arena.h"

namespace depthroute {

/// Model, data, cells, memory by purpose and cost.
std::string dry_run_report(const EvalModel& model, const EvalConfig& config, const std::vector<Cell>& cells,
                           const std::vector<KnownAnswer>& known_answers, const DepthPlan& plan,
                           const Arena& arena);

/// Clean loss, routing mass, cells, known answers, and where the file is.
std::string results_report(const Results& results, double alpha, const std::string& path);

}  // namespace depthroute
