#include "train/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/standard_streams.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "train/signals.h"

namespace depthroute {

namespace {

constexpr int64_t kMostMetricsBytes = int64_t{1} << 40;
constexpr double kTerminalSeconds = 0.1;

/// A stopped terminal, or a pipe whose reader is busy, must not keep the run from stopping.
bool stop_asked() { return stop_requested() != 0; }

}  // namespace

void rewind_metrics(const std::string& path, int64_t step) {
  if (!exists(path)) return;
  const std::string before = read_file(path, kMostMetricsBytes);
  std::string after;
  for (size_t begin = 0; begin < before.size();) {
    const size_t end = before.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string_view line(before.data() + begin, end + 1 - begin);
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool kept = object.is_object() && object.contains("step") && object["step"].is_number_integer() &&
                      object["step"].get<int64_t>() <= step;
    if (kept) after += line;
    begin = end + 1;
  }
  if (after != before) write_file_atomically(path, after);
}

MetricsLog::MetricsLog(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO would wait for a reader.
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
  struct stat status;
  if (fd_ >= 0 ? fstat(fd_, &status) == 0 && !S_ISREG(status.st_mode) : errno == ENXIO) {
    if (fd_ >= 0) close(fd_);
    throw DataError("{}: is in the place of the log, but no file: move it away", path);
  }
  if (fd_ < 0) throw SystemError("{}: cannot be opened for writing: {}", path, errno_text(errno));
}

MetricsLog::~MetricsLog() { close(fd_); }

void MetricsLog::write(const nlohmann::ordered_json& object) {
  const std::string line = object.dump() + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError("{}: cannot be written: {}", path_, errno_text(errno));
    done += static_cast<size_t>(n);
  }
}

void MetricsLog::sync() {
  if (fsync(fd_) != 0) throw SystemError("{}: cannot be written to disk: {}", path_, errno_text(errno));
}

TrainingProgress::TrainingProgress(int64_t first_step, int64_t steps, bool plain)
    : first_step_(first_step), steps_(steps), line_(stdout, plain, stop_asked) {}

void TrainingProgress::step(int64_t t, double loss, double lr, double grad_norm, double tokens_per_s,
                            bool logged) {
  const bool last = t == steps_;
  if (lost_) return;
  if (line_.rewrites() ? !last && !line_.quiet_for(kTerminalSeconds) : !logged) return;
  const double per_step = line_.elapsed() / static_cast<double>(t + 1 - first_step_);
  warn_if_lost(line_.show(fmt::format(
      "step {}/{}  loss {:.4f}  lr {:.3e}  grad norm {:.3f}  {:.0f} tokens/s  {} left", t, steps_, loss, lr,
      grad_norm, tokens_per_s, format_duration(per_step * static_cast<double>(steps_ - t)))));
}

void TrainingProgress::message(const std::string& text) {
  if (!lost_) warn_if_lost(line_.message(text));
  if (lost_) print_text(stderr, text + "\n", stop_asked);
}

void TrainingProgress::warn_if_lost(int error) {
  lost_ = error != 0;
  if (!lost_) return;
  print_text(
      stderr,
      fmt::format("warning: standard output cannot be written: {}; metrics.jsonl holds what is not shown\n",
                  print_error(error)),
      stop_asked);
}

}  // namespace depthroute
