#include "data/atomic_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"

namespace depthroute {
namespace {

/// 0, or the error that kept it from the disk.
int sync(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) close(fd);
  return failed;
}

}  // namespace

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void make_folder_of(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);
  if (error) throw SystemError("{}: cannot create its folder: {}", path, errno_text(error.value()));
}

AtomicPath::AtomicPath(const std::string& path)
    : path_(path), temporary_(fmt::format("{}.tmp-{}", path, getpid())) {
  make_folder_of(path);
}

AtomicPath::~AtomicPath() {
  if (!committed_) std::remove(temporary_.c_str());
}

void AtomicPath::commit() {
  // Some network and FUSE file systems cannot flush a file and say so; there is nothing better to do on them.
  if (const int failed = sync(temporary_); failed != 0 && failed != EINVAL && failed != ENOTSUP)
    throw SystemError("{}: cannot be written to disk: {}", temporary_, errno_text(failed));
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw SystemError("{}: cannot be put in place: {}", path_, errno_text(errno));
  committed_ = true;
  sync(folder_of(path_));  // the file is in its place, whatever this says
}

}  // namespace depthroute
