#include "data/model/safetensors.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/safetensors_header.h"

namespace depthroute {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian and read in place");

constexpr uint64_t kLongestHeader = 100'000'000;  // the reference reader's limit
constexpr int64_t kLengthBytes = 8;

/// The header's bytes; everything before the JSON itself is looked at.
std::string_view header_text(const MappedFile& file, const std::string& path) {
  if (file.size() < kLengthBytes)
    throw DataError(
        "{}: {} bytes are too few for a safetensors file; it is truncated: copy or download it again", path,
        file.size());
  uint64_t length;
  std::memcpy(&length, file.bytes().data(), sizeof(length));
  if (length > kLongestHeader)
    throw DataError("{}: the header would be {} bytes long, more than {}; not a safetensors file", path,
                    length, kLongestHeader);
  if (static_cast<int64_t>(length) > file.size() - kLengthBytes)
    throw DataError(
        "{}: the header is {} bytes long, but the file holds {} after its first {}; it is truncated: copy "
        "or download it again",
        path, length, file.size() - kLengthBytes, kLengthBytes);
  return {reinterpret_cast<const char*>(file.bytes().data()) + kLengthBytes, static_cast<size_t>(length)};
}

/// The data need not be aligned: the header's length is the writer's choice.
template <typename Bits, typename Convert>
void convert_all(const std::byte* from, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, from + i * sizeof(Bits), sizeof(Bits));
    out[i] = convert(bits);
  }
}

}  // namespace

int64_t TensorEntry::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;  // the reader has checked that this cannot overflow
  return product;
}

struct SafetensorsFile::Impl {
  explicit Impl(const std::string& path_) : path(path_), file(path_) {
    const std::string_view text = header_text(file, path);
    const int64_t data_begin = kLengthBytes + static_cast<int64_t>(text.size());
    header = parse_safetensors_header(text, file.size() - data_begin, path);
    data = file.bytes().subspan(static_cast<size_t>(data_begin));
    for (size_t i = 0; i < header.entries.size(); ++i) index.emplace(header.entries[i].name, i);
  }

  std::string path;
  MappedFile file;
  SafetensorsHeader header;
  std::span<const std::byte> data;
  std::unordered_map<std::string, size_t> index;
};

SafetensorsFile::SafetensorsFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const { return impl_->path; }
const std::vector<TensorEntry>& SafetensorsFile::entries() const { return impl_->header.entries; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->header.metadata; }

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = impl_->index.find(name);
  return found == impl_->index.end() ? nullptr : &impl_->header.entries[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry& entry) const {
  DR_CHECK(entry.begin >= 0 && entry.begin <= entry.end &&
           entry.end <= static_cast<int64_t>(impl_->data.size()));
  return impl_->data.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.end - entry.begin));
}

std::span<const std::byte> SafetensorsFile::file_bytes() const { return impl_->file.bytes(); }

void SafetensorsFile::check_float(const TensorEntry& entry) const {
  if (entry.dtype == "F32" || entry.dtype == "BF16" || entry.dtype == "F16") return;
  throw DataError("{}: tensor {} has dtype {}; only F32, BF16 and F16 are read as numbers: convert the model",
                  path(), quote(entry.name), entry.dtype);
}

void SafetensorsFile::read_float(const TensorEntry& entry, std::span<float> out, int64_t first) const {
  DR_CHECK(first >= 0 && first + static_cast<int64_t>(out.size()) <= entry.numel());
  check_float(entry);
  const std::byte* from = bytes(entry).data() + first * (entry.dtype == "F32" ? 4 : 2);
  if (entry.dtype == "F32") {
    if (!out.empty()) std::memcpy(out.data(), from, out.size_bytes());
  } else if (entry.dtype == "BF16") {
    convert_all<uint16_t>(from, out, bf16_to_float);
  } else {
    convert_all<uint16_t>(from, out, f16_to_float);
  }
}

}  // namespace depthroute
