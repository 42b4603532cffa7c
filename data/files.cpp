// Writing: beside the final place, fsync, rename, fsync of the folder. Whatever is unfinished has ".tmp-" in
// its name.
#include "data/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <system_error>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/posix.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void sync_descriptor(int fd, const std::string& path) {
  if (::fsync(fd) == 0) return;
  // Some network and FUSE file systems cannot fsync a folder and say so; there is nothing better to do on
  // them.
  if (errno == EINVAL || errno == ENOTSUP) return;
  throw SystemError("{}: cannot flush to disk: {}", path, errno_text(errno));
}

void sync_path(const std::string& path, int flags) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY | flags));
  if (!fd.valid()) throw SystemError("{}: cannot open to flush to disk: {}", path, errno_text(errno));
  sync_descriptor(fd.get(), path);
}

void sync_folder(const std::string& path) { sync_path(path, O_DIRECTORY); }

/// Makes something new called `<path>.tmp-<pid>`, or with a number behind it when that is taken: a leftover
/// of a dead process that had the same id, or another thread's. `make` returns false with errno set. Returns
/// the name.
std::string make_beside(const std::string& path, const std::function<bool(const char*)>& make) {
  const std::string base = fmt::format("{}.tmp-{}", path, ::getpid());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const std::string name = attempt == 0 ? base : fmt::format("{}-{}", base, attempt);
    if (make(name.c_str())) return name;
    if (errno != EEXIST) throw SystemError("cannot create {}: {}", name, errno_text(errno));
  }
  throw SystemError("cannot create {}: 1000 leftovers of that name exist; remove them", base);
}

void rename_or_throw(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw SystemError("cannot rename {} to {}: {}", from, to, errno_text(errno));
}

void remove_quietly(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

bool exists_at_all(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0;
}

/// Puts the folder `from` at `to`, where something may already stand; afterwards the old one, if any, is at
/// the returned path.
std::string swap_in(const std::string& from, const std::string& to) {
  if (!exists_at_all(to)) {
    rename_or_throw(from, to);
    return "";
  }
  // One step, so that a crash leaves the old or the new folder under the name, never neither.
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return from;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
    throw SystemError("cannot rename {} to {}: {}", from, to, errno_text(errno));
  // File systems without exchange (NFS): the old one steps aside first and comes back if the second rename
  // fails.
  const std::string aside = from + "-replaced";
  rename_or_throw(to, aside);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    (void)::rename(aside.c_str(), to.c_str());
    throw SystemError("cannot rename {} to {}: {}", from, to, errno_text(error));
  }
  return aside;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  temporary_ = make_beside(path_, [this](const char* name) {
    fd_ = open_retrying(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
    return fd_ >= 0;
  });
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  DR_CHECK(fd_ >= 0);
  const auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd_, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw SystemError("{}: cannot write: {}", path_, errno_text(errno));
    next += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::write_at(int64_t offset, const void* data, size_t size) {
  DR_CHECK(fd_ >= 0 && offset >= 0);
  const auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::pwrite(fd_, next, size, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw SystemError("{}: cannot write: {}", path_, errno_text(errno));
    next += written;
    offset += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  DR_CHECK(fd_ >= 0);
  sync_descriptor(fd_, path_);
  // Network file systems report a full disk only here.
  const int closed = ::close(fd_);
  const int close_error = errno;
  fd_ = -1;
  if (closed != 0 && close_error != EINTR) {
    ::unlink(temporary_.c_str());
    throw SystemError("{}: cannot write: {}", path_, errno_text(close_error));
  }
  try {
    rename_or_throw(temporary_, path_);
  } catch (...) {
    ::unlink(temporary_.c_str());
    throw;
  }
  sync_folder(parent_of(path_));
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicFolder::AtomicFolder(const std::string& path) : path_(without_trailing_slashes(path)) {
  temporary_ = make_beside(path_, [](const char* name) { return ::mkdir(name, 0777) == 0; });
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  // Renamed first: whoever still writes here finds no folder any more and cannot add to it while it is
  // emptied.
  const std::string doomed = temporary_ + "-abandoned";
  const bool renamed = ::rename(temporary_.c_str(), doomed.c_str()) == 0;
  remove_quietly(renamed ? doomed : temporary_);
}

void AtomicFolder::commit() {
  DR_CHECK(!committed_);
  try {
    for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
      const fs::file_type type = entry.symlink_status().type();
      if (type == fs::file_type::directory) sync_folder(entry.path().string());
      if (type == fs::file_type::regular) sync_path(entry.path().string(), 0);
    }
  } catch (const fs::filesystem_error& error) {
    throw SystemError("{}: cannot list: {}", temporary_, error.code().message());
  }
  sync_folder(temporary_);
  const std::string replaced = swap_in(temporary_, path_);
  committed_ = true;
  sync_folder(parent_of(path_));
  if (!replaced.empty()) remove_quietly(replaced);
}

void replace_symlink(const std::string& target, const std::string& link) {
  const std::string temporary =
      make_beside(link, [&](const char* name) { return ::symlink(target.c_str(), name) == 0; });
  try {
    rename_or_throw(temporary, link);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(parent_of(link));
}

void remove_folder(const std::string& path) {
  const std::string folder = without_trailing_slashes(path);
  if (!exists_at_all(folder)) return;
  // Into a new folder whose name says it is unfinished: the contents vanish from `path` in one step.
  const std::string doomed = make_beside(folder, [](const char* name) { return ::mkdir(name, 0777) == 0; });
  const std::string inside = doomed + "/" + fs::path(folder).filename().string();
  try {
    rename_or_throw(folder, inside);
  } catch (...) {
    remove_quietly(doomed);
    throw;
  }
  std::error_code error;
  fs::remove_all(doomed, error);
  if (error) throw SystemError("cannot remove {}: {}", doomed, error.message());
}

}  // namespace depthroute
