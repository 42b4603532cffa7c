#include "configs/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "configs/standard_streams.h"

namespace depthroute {

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

ProgressLine::ProgressLine(std::FILE* stream, bool plain, std::function<bool()> give_up)
    : stream_(stream),
      rewrites_(!plain && isatty(fileno(stream)) == 1),
      give_up_(std::move(give_up)),
      start_(Clock::now()),
      shown_(start_) {}

ProgressLine::~ProgressLine() {
  if (pending_) print_text(stream_, "\n", give_up_);
}

double ProgressLine::elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

bool ProgressLine::quiet_for(double seconds) const {
  return std::chrono::duration<double>(Clock::now() - shown_).count() >= seconds;
}

int ProgressLine::show(const std::string& line) {
  shown_ = Clock::now();
  constexpr const char* kToEndOfLine = "\x1b[K";  // clears what is left of a longer line
  const int error =
      print_text(stream_, rewrites_ ? fmt::format("\r{}{}", line, kToEndOfLine) : line + "\n", give_up_);
  pending_ = rewrites_ && error == 0;
  return error;
}

int ProgressLine::message(const std::string& text) {
  const bool ends_line = std::exchange(pending_, false);
  return print_text(stream_, fmt::format("{}{}\n", ends_line ? "\n" : "", text), give_up_);
}

}  // namespace depthroute
