// What depthroute-eval does once everything is opened: a whole evaluation, a part of one, or the results of
// all parts. All return the exit status, the same on every process.
#pragma once

#include "eval/job.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Measures everything and writes the results file. Collective, as measure_part().
int measure_whole(World& world, const CommandLine& command, const Job& job);

/// Measures one part and writes its file, unless it is there already. ConfigError if what is there belongs to
/// another evaluation, or there are more parts than batches.
int measure_part(World& world, const CommandLine& command, const Job& job, const PartNumber& number);

/// Makes the results file of `count` parts: the same as measure_whole() writes, but for the time and the
/// command line. Runs no model and needs no GPU. One process alone. DataError naming the parts that are
/// missing, damaged or not of this evaluation; then nothing is written. `check_only`: stops before writing.
int merge_parts(const CommandLine& command, const Job& job, int64_t count, bool check_only);

/// Throws ConfigError if there are fewer batches than parts.
void check_part_count(const Job& job, int64_t count);

}  // namespace depthroute
