// What `--dry-run` prints: model, data, cells, memory by purpose, and cost.
#pragma once

#include <string>

#include "eval/input.h"
#include "kernels/arena.h"

namespace depthroute {

/// `arena` has been planned, not allocated.
std::string dry_run_report(const EvalInput& input, const Arena& arena);

}  // namespace depthroute
