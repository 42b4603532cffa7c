#include "data/atomic_path.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <functional>
#include <system_error>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/posix.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMark = ".tmp-";
constexpr std::string_view kReplaced = "-replaced";

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

void flush_descriptor(int fd, const std::string& path) {
  if (::fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP) return;
  throw SystemError("{}: cannot flush to disk: {}", path, errno_text(errno));
}

void flush_file(const std::string& path) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY));
  if (!fd.valid()) throw SystemError("{}: cannot open to flush to disk: {}", path, errno_text(errno));
  flush_descriptor(fd.get(), path);
}

/// Makes something new called `<path>.tmp-<pid>`, or with a number behind it when that is taken: by a
/// leftover of a dead process that had the same id, or by another thread. `make` returns false with errno
/// set. Returns the name.
std::string make_beside(const std::string& path, const std::function<bool(const char*)>& make) {
  const std::string base = fmt::format("{}{}{}", path, kMark, ::getpid());
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

/// Puts the folder `from` at `to`, where something may already be. Returns where the old one is afterwards;
/// "" if there was none.
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
  const std::string aside = fmt::format("{}{}", from, kReplaced);
  rename_or_throw(to, aside);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    (void)::rename(aside.c_str(), to.c_str());
    throw SystemError("cannot rename {} to {}: {}", from, to, errno_text(error));
  }
  return aside;
}

/// Writes all of `data`, as often interrupted as may be. `write_some(data, size, done)`: write(2) or
/// pwrite(2).
template <typename WriteSome>
void write_all(const std::string& path, const void* data, size_t size, WriteSome write_some) {
  const auto* bytes = static_cast<const char*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t written = write_some(bytes + done, size - done, done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw SystemError("{}: cannot write: {}", path, errno_text(errno));
    done += static_cast<size_t>(written);
  }
}

}  // namespace

std::string folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void make_folder_of(const std::string& path) {
  std::error_code error;
  fs::create_directories(folder_of(path), error);
  if (error) throw SystemError("{}: cannot create its folder: {}", path, errno_text(error.value()));
}

void flush_folder(const std::string& path) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY | O_DIRECTORY));
  if (fd.valid()) return flush_descriptor(fd.get(), path);
  if (errno == EACCES) return;  // may be written, but not read
  throw SystemError("{}: cannot open to flush to disk: {}", path, errno_text(errno));
}

AtomicPath::AtomicPath(const std::string& path) : path_(path) {
  temporary_ = make_beside(path_, [](const char* name) {
    return FileDescriptor(open_retrying(name, O_WRONLY | O_CREAT | O_EXCL, 0666)).valid();
  });
}

AtomicPath::~AtomicPath() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicPath::commit() {
  flush_file(temporary_);
  put_in_place();
}

void AtomicPath::put_in_place() {
  DR_CHECK(!committed_);
  rename_or_throw(temporary_, path_);
  committed_ = true;
  flush_folder(folder_of(path_));
}

AtomicFile::AtomicFile(const std::string& path)
    : place_(path), fd_(open_retrying(place_.temporary(), O_WRONLY)) {
  if (fd_ < 0) throw SystemError("cannot open {}: {}", place_.temporary(), errno_text(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AtomicFile::write(const void* data, size_t size) {
  DR_CHECK(fd_ >= 0);
  write_all(place_.path_, data, size,
            [this](const char* bytes, size_t count, size_t) { return ::write(fd_, bytes, count); });
}

void AtomicFile::write_at(int64_t offset, const void* data, size_t size) {
  DR_CHECK(fd_ >= 0 && offset >= 0);
  write_all(place_.path_, data, size, [&](const char* bytes, size_t count, size_t done) {
    return ::pwrite(fd_, bytes, count, offset + static_cast<int64_t>(done));
  });
}

void AtomicFile::commit() {
  DR_CHECK(fd_ >= 0);
  flush_descriptor(fd_, place_.path_);
  // Network file systems report a full disk only here.
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 && errno != EINTR)
    throw SystemError("{}: cannot write: {}", place_.path_, errno_text(errno));
  place_.put_in_place();
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
  // Renamed first, so that whoever still writes here finds no folder and cannot add to it while it is
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
      if (type == fs::file_type::directory) flush_folder(entry.path().string());
      if (type == fs::file_type::regular) flush_file(entry.path().string());
    }
  } catch (const fs::filesystem_error& error) {
    throw SystemError("{}: cannot list: {}", temporary_, error.code().message());
  }
  flush_folder(temporary_);
  const std::string replaced = swap_in(temporary_, path_);
  committed_ = true;
  flush_folder(folder_of(path_));
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
  flush_folder(folder_of(link));
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

std::string_view name_when_finished(std::string_view name) {
  const size_t mark = name.rfind(kMark), digits = mark + kMark.size();
  if (mark == std::string_view::npos || digits == name.size()) return {};
  return std::isdigit(static_cast<unsigned char>(name[digits])) ? name.substr(0, mark) : std::string_view();
}

void remove_leftovers_of(const std::string& path) {
  const std::string wanted = fs::path(path).filename().string();
  std::vector<std::string> names;
  try {
    names = list_folder(folder_of(path));
  } catch (const DataError&) {
    return;
  }
  for (const std::string& name : names)
    if (name_when_finished(name) == wanted) remove_quietly(folder_of(path) + "/" + name);
}

void restore_replaced(const std::string& path) {
  if (exists_at_all(path)) return;
  const std::string wanted = fs::path(path).filename().string(), folder = folder_of(path);
  for (const std::string& name : list_folder(folder))
    if (name_when_finished(name) == wanted && name.ends_with(kReplaced))
      return rename_or_throw(folder + "/" + name, path);
}

}  // namespace depthroute
