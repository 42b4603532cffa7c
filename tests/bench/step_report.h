// Prints the measurements of depthroute-bench-step, for people and for records.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/step_runs.h"

namespace depthroute::bench {

/// Model-FLOPs utilisation: flops_per_token * tokens / seconds / peak, peak in FLOP/s.
double utilisation(const StepRuns& runs, double seconds, double peak_flops);

/// Median over the rounds of (median step of `runs` / median step of `base`) - 1: what routing costs, without
/// what the machine did from round to round. NaN if they have no rounds in common.
double overhead(const StepRuns& runs, const StepRuns& base);

/// Prints steps, tokens/s, utilisation, memory and shares of one measurement.
void print_runs(const StepRuns& runs, const Target& target, const Machine& machine, double peak_flops);
/// Prints the measurements side by side, with their overheads over `additive` at the same micro-batch.
void print_table(const std::vector<StepRuns>& all, double peak_flops, const std::string& peak_name);
/// Returns one measurement as a JSON object on one line; without utilisation where peak_flops is 0, not known.
std::string json_line(const StepRuns& runs, const std::vector<StepRuns>& all, const Target& target,
                      double peak_flops, const std::string& peak_name);

}  // namespace depthroute::bench
