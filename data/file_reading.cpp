// Reading: maps, whole files, checksums and patterns. Every error names the file.
#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/posix.h"

namespace depthroute {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

std::string hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (const unsigned char byte : canonical.digest) text += fmt::format("{:02x}", byte);
  return text;
}

/// Reads the next bytes; 0 at the end of the file.
size_t read_some(int fd, void* out, size_t size, const std::string& path) {
  ssize_t count;
  do {
    count = ::read(fd, out, size);
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw DataError("{}: cannot read: {}", path, errno_text(errno));
  return static_cast<size_t>(count);
}

struct GlobResult : glob_t {
  GlobResult() : glob_t{} {}
  ~GlobResult() { ::globfree(this); }
  GlobResult(const GlobResult&) = delete;
  GlobResult& operator=(const GlobResult&) = delete;
};

bool is_unfinished(const std::string& path) {
  const size_t slash = path.rfind('/');
  return path.find(".tmp-", slash == std::string::npos ? 0 : slash) != std::string::npos;
}

std::vector<std::string> matches_of(const std::string& pattern) {
  std::string escaped;  // glob(3) also knows [...], which file names may hold
  for (const char c : pattern) {
    if (c == '[' || c == ']' || c == '\\') escaped += '\\';
    escaped += c;
  }
  GlobResult result;
  const int status = ::glob(escaped.c_str(), GLOB_NOSORT, nullptr, &result);
  if (status != 0 && status != GLOB_NOMATCH) throw DataError("{}: cannot list the folder's files", pattern);
  std::vector<std::string> paths;
  for (size_t i = 0; i < result.gl_pathc; ++i)
    if (!is_unfinished(result.gl_pathv[i])) paths.emplace_back(result.gl_pathv[i]);
  std::sort(paths.begin(), paths.end());  // by bytes, whatever the locale
  return paths;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY));
  if (!fd.valid()) throw DataError("{}: cannot open: {}", path, errno_text(errno));
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) throw DataError("{}: cannot open: {}", path, errno_text(errno));
  if (!S_ISREG(status.st_mode))
    throw DataError("{}: is {}, not a file", path, S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) throw DataError("{}: cannot map into memory: {}", path, errno_text(errno));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const std::string& path) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY));
  if (!fd.valid()) throw DataError("{}: cannot open: {}", path, errno_text(errno));
  std::string content;
  size_t size = 0;
  while (true) {
    content.resize(size + kChunkBytes);
    const size_t count = read_some(fd.get(), content.data() + size, kChunkBytes, path);
    size += count;
    if (count > 0) continue;
    content.resize(size);
    return content;
  }
}

std::string hash_bytes(std::span<const std::byte> bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash_file(const std::string& path) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY));
  if (!fd.valid()) throw DataError("{}: cannot open: {}", path, errno_text(errno));
  Hasher hasher;
  std::vector<std::byte> buffer(kChunkBytes);
  while (const size_t count = read_some(fd.get(), buffer.data(), buffer.size(), path))
    hasher.update({buffer.data(), count});
  return hasher.hex();
}

void Hasher::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }
Hasher::Hasher() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(state_.get());
}
void Hasher::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
}
std::string Hasher::hex() const { return depthroute::hex(XXH3_128bits_digest(state_.get())); }

std::vector<std::string> expand_patterns(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    if (pattern.find_first_of("*?") == std::string::npos) {
      paths.push_back(pattern);
      continue;
    }
    const std::vector<std::string> found = matches_of(pattern);
    if (found.empty())
      throw DataError("{}: no file matches this pattern; check the path or make the files", pattern);
    for (const std::string& path : found) {
      if (std::find(paths.begin(), paths.end(), path) != paths.end())
        throw DataError(
            "{}: matched by {} and listed before; narrow the patterns so that each file comes once", path,
            pattern);
      paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace depthroute
