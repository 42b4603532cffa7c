// What depthroute-eval does once its input is open: a whole evaluation, a part of one, or the results of all
// parts. Each returns the exit status, the same on every rank.
#pragma once

#include "eval/input.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Measures everything and writes the results file. Collective, like measure_part().
int measure_whole(World& world, const CommandLine& command, const EvalInput& input);

/// Measures one part and writes its file, unless it is there already. ConfigError if what is there belongs to
/// another evaluation.
int measure_part(World& world, const CommandLine& command, const EvalInput& input, const PartNumber& number);

/// Makes the results file of `count` parts: the same as measure_whole() writes, except for the time and the
/// command line. Runs no model and needs no GPU; for a single rank. DataError naming the parts that are
/// missing, damaged or of another evaluation; nothing is written then. `check_only`: stops before writing.
int merge_parts(const CommandLine& command, const EvalInput& input, int64_t count, bool check_only);

/// ConfigError if there are fewer batches than parts.
void check_part_count(const EvalInput& input, int64_t count);

}  // namespace depthroute
