// What depthroute-eval does once its input is open: a whole evaluation, a part of one, or the results of all
// parts. What was measured before, by whichever of them, is not measured again (eval/results/unit_store.h).
// Each returns the exit status, the same on every rank.
#pragma once

#include "eval/input.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Measures what is missing and writes the results file. ConfigError if there are results of another
/// measurement, unless `replace`. Collective, like measure_part().
int measure_whole(World& world, const CommandLine& command, const EvalInput& input, bool replace);

/// Measures what is missing of one part.
int measure_part(World& world, const CommandLine& command, const EvalInput& input, const PartNumber& number);

/// Makes the results file of `count` parts: the same as measure_whole() writes, except for the time and the
/// command line. Runs no model and needs no GPU; for a single rank. DataError naming the parts of which
/// something is missing; nothing is written then, or with command.dry_run.
int merge_parts(const CommandLine& command, const EvalInput& input, int64_t count, bool replace);

/// ConfigError if there are fewer batches than parts.
void check_part_count(const EvalInput& input, int64_t count);

}  // namespace depthroute
