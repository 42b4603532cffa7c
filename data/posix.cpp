#include "data/posix.h"

#include <fcntl.h>
#include <unistd.h>

namespace depthroute {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int open_retrying(const std::string& path, int flags, unsigned mode) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

bool stays_inside(std::string_view path) {
  if (path.find('\0') != std::string_view::npos) return false;
  size_t begin = 0;
  while (true) {
    const size_t end = path.find('/', begin);
    const std::string_view part = path.substr(begin, end == std::string_view::npos ? end : end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == std::string_view::npos) return true;
    begin = end + 1;
  }
}

}  // namespace depthroute
