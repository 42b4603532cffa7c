#include "data/files.h"

#include <dirent.h>
#include <glob.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>
#include <utility>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/scalar.h"

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
  const RegularFile file(path);
  identity_ = file.identity();
  size_ = static_cast<size_t>(file.size());
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) throw_unreadable(path, "cannot map into memory", errno);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      identity_(other.identity_) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const std::string& path, int64_t max_bytes) {
  return RegularFile(path).read_all(max_bytes);
}

std::vector<std::string> list_folder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder && errno == ENOENT) return {};
  if (!folder && errno == ENOTDIR) throw DataError("{}: is not a folder", path);
  if (!folder) throw_unreadable(path, "cannot be listed", errno);
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* const entry = ::readdir(folder.get());
    if (entry == nullptr && errno != 0) throw_unreadable(path, "cannot be listed", errno);
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string hash_bytes(std::span<const std::byte> bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash_file(const std::string& path) {
  RegularFile file(path);
  Hasher hasher;
  std::vector<std::byte> buffer(kChunkBytes);
  while (const size_t count = file.read(buffer)) hasher.update(std::span(buffer).first(count));
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
      if (valid_utf8_prefix(path) != path.size())
        throw DataError("{}: matches a file whose name is not UTF-8, which results cannot record: rename it",
                        pattern);
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
