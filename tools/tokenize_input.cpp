#include "tools/tokenize_input.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr size_t kSpoolBytes = size_t{1} << 20;

int stop_fd = -1;  // readable from the first stop signal on; never read

/// Waits until `fd` can be read without blocking (or at its end); a negative `fd` waits for nothing.
void wait_readable(int fd) {
  if (fd < 0 && stop_fd < 0) return;
  pollfd waiting[2] = {{stop_fd, POLLIN, 0}, {fd, POLLIN, 0}};
  while (::poll(waiting, 2, fd < 0 ? 0 : -1) < 0)
    if (errno != EINTR && errno != EAGAIN) throw SystemError("cannot wait for input: {}", errno_text(errno));
  if (waiting[0].revents != 0) throw SystemError("interrupted; nothing was written");
}

/// Without O_NONBLOCK, opening a FIFO waits for its writer, and a signal that comes just before is lost.
int open_input(const std::string& path) {
  if (path == "-") return ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
  return open_retrying(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

}  // namespace

void hold_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  struct sigaction hangup;
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);
  stop_fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (stop_fd < 0) throw SystemError("cannot watch for signals: {}", errno_text(errno));
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
}

void throw_if_stopped() { wait_readable(-1); }

Input::Input(const std::string& path, const std::string& spool_folder)
    : path_(path == "-" ? "standard input" : path),
      file_(std::make_unique<FileDescriptor>(open_input(path))) {
  if (!file_->valid()) throw DataError("{}: cannot open: {}", path_, errno_text(errno));
  struct stat status;
  if (::fstat(file_->get(), &status) != 0) throw DataError("{}: cannot open: {}", path_, errno_text(errno));
  if (S_ISDIR(status.st_mode)) throw DataError("{}: is a folder; give text files", path_);
  const bool measurable = S_ISREG(status.st_mode) && ::lseek(file_->get(), 0, SEEK_CUR) == 0;
  size_ = measurable ? static_cast<int64_t>(status.st_size) : spool(spool_folder);
}

size_t Input::read(std::span<char> buffer) const {
  while (true) {
    wait_readable(file_->get());
    const ssize_t count = ::read(file_->get(), buffer.data(), buffer.size());
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR && errno != EAGAIN) throw DataError("{}: cannot read: {}", path_, errno_text(errno));
  }
}

int64_t Input::spool(const std::string& folder) {
  std::string name = folder + "/input-XXXXXX";
  auto copy = std::make_unique<FileDescriptor>(::mkostemp(name.data(), O_CLOEXEC));
  if (!copy->valid()) throw SystemError("cannot create {}: {}", name, errno_text(errno));
  ::unlink(name.c_str());
  std::vector<char> buffer(kSpoolBytes);
  int64_t total = 0;
  while (const size_t count = read(buffer)) {
    for (size_t done = 0; done < count;) {
      const ssize_t written = ::write(copy->get(), buffer.data() + done, count - done);
      if (written < 0 && errno != EINTR)
        throw SystemError("{}: cannot be copied to {}: {}", path_, folder, errno_text(errno));
      done += written < 0 ? 0 : static_cast<size_t>(written);
    }
    total += static_cast<int64_t>(count);
  }
  if (::lseek(copy->get(), 0, SEEK_SET) != 0)
    throw SystemError("{}: cannot be read again: {}", path_, errno_text(errno));
  file_ = std::move(copy);
  return total;
}

}  // namespace depthroute
