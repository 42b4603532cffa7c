#include "data/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/files.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

/// Whether the open file is still the one of that name.
bool is_at(int fd, const std::string& path) {
  struct stat opened, named;
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

}  // namespace

FileLock::FileLock(const std::string& path, const std::string& held, Afterwards afterwards)
    : path_(path), afterwards_(afterwards) {
  do {  // where the file goes with its holder, what was opened may not be there any more
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

void remove_leftovers_of(const std::string& path) {
  const fs::path whole(path);
  const std::string start = whole.filename().string() + ".tmp-";
  const fs::path folder = whole.has_parent_path() ? whole.parent_path() : fs::path(".");
  std::vector<std::string> names;
  try {
    names = list_folder(folder.string());
  } catch (const DataError&) {
    return;
  }
  std::error_code ignored;
  for (const std::string& name : names)
    if (name.starts_with(start) && name.find_first_of("0123456789", start.size()) == start.size())
      fs::remove_all(folder / name, ignored);
}

}  // namespace depthroute
