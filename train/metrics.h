// metrics.jsonl (one JSON object per line, SPEC §8) and the line a person watches.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace depthroute {

/// Drops every line after `step`, and a last line that a kill cut short, so that a resumed log continues as
/// the uninterrupted one would. No file: nothing to do.
void rewind_metrics(const std::string& path, int64_t step);

class MetricsLog {
 public:
  /// Opens for appending. SystemError if it cannot, DataError if something else than a file is there.
  explicit MetricsLog(const std::string& path);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  /// One line, handed to the system in one write; numbers that are not finite become null.
  void write(const nlohmann::ordered_json& object);
  /// To the disk: a checkpoint must not be newer than the log it goes with.
  void sync();

 private:
  std::string path_;
  int fd_ = -1;
};

/// Progress on standard output: one line rewritten in place on a terminal, plain lines at logged steps
/// elsewhere. Where that cannot be written, a warning says so once, steps are no longer shown, and messages
/// go to standard error.
class Progress {
 public:
  /// `plain`: never rewrites a line. mpirun gives its processes a terminal even where its own output is a
  /// file.
  Progress(int64_t first_step, int64_t steps, bool plain);
  /// `logged`: this step also went to the metrics.
  void step(int64_t t, double loss, double lr, double grad_norm, double tokens_per_s, bool logged);
  /// A line of its own, whatever is being rewritten.
  void message(const std::string& text);

 private:
  void print(const std::string& text);

  using Clock = std::chrono::steady_clock;
  int64_t first_step_, steps_;
  bool terminal_, pending_ = false;  // pending: the cursor stands at the end of a line to be rewritten
  bool lost_ = false;                // standard output cannot be written
  Clock::time_point start_, shown_;
};

/// "1 h 05 min", "12 min 03 s", "4 s"
std::string format_duration(double seconds);

}  // namespace depthroute
