#include "configs/base/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe (FIFO)";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// Returns false if nothing is there.
bool look_at(const std::string& path, struct stat& status) {
  if (::stat(path.c_str(), &status) == 0) return true;
  if (means_absent(errno)) return false;
  throw_unreadable(path, "cannot be accessed", errno);
}

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileIdentity identity_of(const struct stat& status) {
  return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

}  // namespace

std::string errno_text(int error) {
  std::string text = std::error_code(error, std::generic_category()).message();
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    text += "; free space or choose another folder";
  else if (error == EACCES || error == EPERM || error == EROFS)
    text += "; check its permissions";
  return text;
}

bool means_absent(int error) { return error == ENOENT || error == ENOTDIR; }

void throw_unreadable(const std::string& path, const std::string& action, int error) {
  const std::string text = fmt::format("{}: {}: {}", path, action, errno_text(error));
  if (means_absent(error)) throw DataError(text);
  throw AccessError(text);
}

bool exists(const std::string& path) {
  struct stat status;
  return look_at(path, status);
}

bool is_folder(const std::string& path) {
  struct stat status;
  return look_at(path, status) && S_ISDIR(status.st_mode);
}

std::optional<FileIdentity> identify(const std::string& path) {
  struct stat status;
  if (!look_at(path, status)) return std::nullopt;
  return identity_of(status);
}

RegularFile::RegularFile(const std::string& path, const std::string& failure) : path_(path) {
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  do {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0 && errno == ENXIO) throw DataError("{}: is a socket or device, not a file", path);
  if (fd_ < 0) throw_unreadable(path, failure, errno);
  struct stat status;
  const bool known = ::fstat(fd_, &status) == 0;
  const int error = errno;
  if (known && S_ISREG(status.st_mode)) {
    identity_ = identity_of(status);
    return;
  }
  ::close(fd_);
  if (!known) throw_unreadable(path, failure, error);
  throw DataError("{}: is {}, not a file", path, kind_of(status.st_mode));
}

RegularFile::~RegularFile() { ::close(fd_); }

size_t RegularFile::read(std::span<std::byte> out) {
  ssize_t count;
  do {
    count = ::read(fd_, out.data(), out.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw_unreadable(path_, "cannot read", errno);
  return static_cast<size_t>(count);
}

std::string RegularFile::read_all(int64_t max_bytes) {
  std::string content;
  size_t size = 0;
  while (true) {
    content.resize(size + static_cast<size_t>(std::min(kChunkBytes, max_bytes + 1)));
    const size_t count = read(std::as_writable_bytes(std::span(content)).subspan(size));
    size += count;
    if (static_cast<int64_t>(size) > max_bytes)
      throw DataError("{}: holds more than {} bytes, too many for a file of this kind: check the path", path_,
                      max_bytes);
    if (count > 0) continue;
    content.resize(size);
    return content;
  }
}

}  // namespace depthroute
