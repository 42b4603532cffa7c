// The table of results that a person reads on the terminal.
#pragma once

#include <string>
#include <vector>

#include "eval/analysis/findings.h"

namespace depthroute {

/// Clean loss, routing mass, cells, known answers, and where the file is.
std::string results_report(const Results& results, double alpha, const std::string& path);

// What the dry run shows of cells as well.
/// Width of the longest name.
size_t name_width(const std::vector<Cell>& cells);
/// Counts of sites, as in "4 (1 skipped, 2 duplicate)".
std::string site_counts(const Cell& cell);

}  // namespace depthroute
