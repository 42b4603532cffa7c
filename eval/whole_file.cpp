#include "eval/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "configs/base/error.h"

namespace depthroute {
namespace {

void sync(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) close(fd);
  if (failed) throw SystemError("{}: cannot be written to disk: {}", path, std::strerror(failed));
}

}  // namespace

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void make_folder_of(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);
  if (error) throw SystemError("{}: cannot create its folder: {}", path, error.message());
}

WholeFile::WholeFile(const std::string& path)
    : path_(path), temporary_(fmt::format("{}.tmp-{}", path, getpid())) {
  make_folder_of(path);
}

WholeFile::~WholeFile() {
  if (!committed_) std::remove(temporary_.c_str());
}

void WholeFile::commit() {
  sync(temporary_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw SystemError("{}: cannot be put in place: {}", path_, std::strerror(errno));
  committed_ = true;
  sync(folder_of(path_));
}

}  // namespace depthroute
