// The line that tells a person how far a program is.
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

namespace depthroute {

/// "1 h 05 min", "12 min 03 s", "4 s"
std::string format_duration(double seconds);

/// Shows one line after the other: rewritten in place on a terminal, each a line of its own elsewhere.
class ProgressLine {
 public:
  /// `plain`: never rewrites, whatever `stream` is (mpirun gives its processes a terminal even if its own
  /// output is a file). `give_up`: see print_text().
  explicit ProgressLine(std::FILE* stream, bool plain = false, std::function<bool()> give_up = {});
  ~ProgressLine();  // ends a line that was being rewritten
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool rewrites() const { return rewrites_; }
  /// Seconds since this object was made.
  double elapsed() const;
  /// Whether nothing was shown for this long; at first, since this object was made.
  bool quiet_for(double seconds) const;

  /// Shows `line` in place of the one before. Returns 0 or the error of print_text().
  int show(const std::string& line);
  /// Prints `text` as a line that stays. Likewise.
  int message(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* stream_;
  bool rewrites_;
  bool pending_ = false;  // the cursor is behind a line to be rewritten
  std::function<bool()> give_up_;
  Clock::time_point start_, shown_;
};

}  // namespace depthroute
