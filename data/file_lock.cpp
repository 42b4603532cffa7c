#include "data/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"

namespace depthroute {
namespace {

/// Whether the open file is still the one of that name.
bool is_at(int fd, const std::string& path) {
  struct stat opened, named;
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

void refuse_other_files(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0 || (S_ISREG(status.st_mode) && status.st_size == 0)) return;
  throw ConfigError("{}: is no lock, but has the name of one: move it, or write to another place", path);
}

}  // namespace

FileLock::FileLock(const std::string& path, const std::string& held, Afterwards afterwards)
    : path_(path), afterwards_(afterwards) {
  if (afterwards_ == Afterwards::remove_file) refuse_other_files(path_);
  do {  // its last holder may have removed the file between open() and flock()
    if (fd_ >= 0) ::close(fd_);
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd_ < 0) throw SystemError("{}: cannot be opened: {}", path_, errno_text(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) continue;
    const int reason = errno;
    ::close(fd_);
    if (reason != EWOULDBLOCK) throw SystemError("{}: cannot be locked: {}", path_, errno_text(reason));
    throw ConfigError("{}: {}", path_, held);
  } while (!is_at(fd_, path_));
}

FileLock::~FileLock() {
  if (afterwards_ == Afterwards::remove_file) ::unlink(path_.c_str());
  ::close(fd_);
}

}  // namespace depthroute
