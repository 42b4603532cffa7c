#include "configs/standard_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string>
#include <system_error>

#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr int kPollMilliseconds = 200;

/// Opens /dev/null as `descriptor` if that is closed, in the mode for which nobody uses it. Call in ascending
/// order: open() takes the lowest free descriptor.
void occupy(int descriptor, int access) {
  if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) (void)!::open("/dev/null", access);
}

/// Waits until a write would not block. Returns false if the caller gives up.
bool wait_for_reader(int descriptor, const std::function<bool()>& give_up) {
  pollfd wanted = {descriptor, POLLOUT, 0};
  while (::poll(&wanted, 1, kPollMilliseconds) <= 0)  // nothing in that time, or a signal
    if (give_up && give_up()) return false;
  return true;
}

}  // namespace

void secure_standard_streams() {
  occupy(STDIN_FILENO, O_WRONLY);
  occupy(STDOUT_FILENO, O_RDONLY);
  occupy(STDERR_FILENO, O_RDONLY);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

int print_text(std::FILE* stream, std::string_view text, const std::function<bool()>& give_up) noexcept {
  if (std::fflush(stream) != 0) return errno;
  const int descriptor = ::fileno(stream);
  while (!text.empty()) {
    if (give_up && !wait_for_reader(descriptor, give_up)) return ECANCELED;
    // A pipe that is ready takes this much without blocking.
    const size_t size = give_up ? std::min<size_t>(text.size(), PIPE_BUF) : text.size();
    const ssize_t count = ::write(descriptor, text.data(), size);
    if (count >= 0)
      text.remove_prefix(static_cast<size_t>(count));
    else if (errno == EAGAIN)  // the descriptor is non-blocking
      (void)wait_for_reader(descriptor, give_up);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

int print_line(std::FILE* stream, std::string_view line) noexcept {
  try {
    return print_text(stream, std::string(line) + '\n');
  } catch (...) {
    return ENOMEM;
  }
}

std::string print_error(int error) {
  if (error == ECANCELED) return "nobody reads it";
  return std::error_code(error, std::generic_category()).message();
}

void print_result(std::string_view text) {
  if (const int error = print_text(stdout, text))
    throw SystemError("standard output: cannot be written: {}", print_error(error));
}

void require_printed() {
  errno = EIO;  // stands for an earlier failed write, whose errno is lost
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw SystemError("standard output: cannot be written: {}", print_error(errno));
}

}  // namespace depthroute
