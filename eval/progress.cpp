#include "eval/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace depthroute {
namespace {

constexpr double kTerminalSeconds = 0.25, kLogSeconds = 30;

}  // namespace

void Progress::report(double done, double total) {
  const bool last = done >= total * (1 - 1e-9);
  if (!line_.quiet_for(line_.rewrites() ? kTerminalSeconds : kLogSeconds) && !(line_.rewrites() && last))
    return;
  const double share = std::min(done / total, 1.0), elapsed = line_.elapsed();
  // A closed pipe or a full disk must not end the evaluation.
  (void)line_.show(fmt::format("{:5.1f} % done, {} so far, about {} to go", 100 * share,
                               format_duration(elapsed), format_duration(elapsed * (1 - share) / share)));
}

}  // namespace depthroute
