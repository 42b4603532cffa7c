// metrics.jsonl, one JSON object per line (train/model/SPEC.md §4), and the line a person watches.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "configs/progress_line.h"

namespace depthroute {

/// Drops every line after `step`, and a last line that a kill cut short, so that a resumed log continues as
/// the uninterrupted one would. Does nothing if there is no file.
void rewind_metrics(const std::string& path, int64_t step);

class MetricsLog {
 public:
  /// Opens the file for appending. SystemError if that fails, DataError if `path` is something else than a
  /// file.
  explicit MetricsLog(const std::string& path);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  /// Writes one line, in one system call; numbers that are not finite become null.
  void write(const nlohmann::ordered_json& object);
  /// Flushes to disk: a checkpoint must not be newer than the log it goes with.
  void sync();

 private:
  std::string path_;
  int fd_ = -1;
};

/// Progress on standard output: the newest step on a terminal, the logged steps elsewhere. If it cannot be
/// written, warns once, shows no more steps, and sends messages to standard error.
class TrainingProgress {
 public:
  /// `plain`: see ProgressLine.
  TrainingProgress(int64_t first_step, int64_t steps, bool plain);
  /// `logged`: this step also went to the metrics.
  void step(int64_t t, double loss, double lr, double grad_norm, double tokens_per_s, bool logged);
  /// Prints a line that stays.
  void message(const std::string& text);

 private:
  void warn_if_lost(int error);

  int64_t first_step_, steps_;
  ProgressLine line_;
  bool lost_ = false;  // standard output cannot be written
};

}  // namespace depthroute
