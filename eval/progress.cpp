#include "eval/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace depthroute {
namespace {

constexpr double kTerminalSeconds = 0.25, kLogSeconds = 30;

std::string duration(double seconds) {
  const long whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

}  // namespace

void say(std::FILE* to, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (terminal_ && printed_) say(stderr, "\n");
}

void Progress::print(double share, double elapsed) {
  const std::string line = fmt::format("{:5.1f} % done, {} so far, about {} to go", 100 * share,
                                       duration(elapsed), duration(elapsed * (1 - share) / share));
  say(stderr, terminal_ ? fmt::format("\r{:<60}", line) : line + "\n");
  printed_ = true;
}

void Progress::report(double done, double total) {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const bool last = done >= total * (1 - 1e-9);
  if (elapsed - last_print_ < (terminal_ ? kTerminalSeconds : kLogSeconds) && !(terminal_ && last)) return;
  last_print_ = elapsed;
  print(std::min(done / total, 1.0), elapsed);
}

}  // namespace depthroute
