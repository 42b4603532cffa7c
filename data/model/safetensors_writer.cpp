#include <algorithm>
#include <nlohmann/json.hpp>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/safetensors.h"

namespace depthroute {
namespace {

constexpr size_t kAlignment = 8;
constexpr size_t kChunk =
    size_t{1} << 18;  // values at a time: 1 MiB, still in the cache for the second reader

int64_t element_bytes(const TensorToWrite& tensor) { return tensor.as_bf16 ? 2 : 4; }
const char* dtype_of(const TensorToWrite& tensor) { return tensor.as_bf16 ? "BF16" : "F32"; }
int64_t numel_of(const TensorToWrite& tensor) {
  return tensor.file ? tensor.entry->numel() : static_cast<int64_t>(tensor.values.size());
}

/// Sorted as the reference writer does, larger elements first and then by name, so that equal models give
/// equal bytes.
std::vector<const TensorToWrite*> in_file_order(std::span<const TensorToWrite> tensors) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return element_bytes(*a) != element_bytes(*b) ? element_bytes(*a) > element_bytes(*b) : a->name < b->name;
  });
  return order;
}

void check_tensor(const TensorToWrite& tensor) {
  int64_t numel = 1;
  for (const int64_t size : tensor.shape) DR_CHECK(size >= 0 && !__builtin_mul_overflow(numel, size, &numel));
  DR_CHECK_MSG(numel == numel_of(tensor), "a tensor's values do not fill its shape");
  DR_CHECK_MSG(tensor.name != "__metadata__", "the format keeps this name for itself");
}

std::string header_for(const std::vector<const TensorToWrite*>& order,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t begin = 0;
  for (const TensorToWrite* tensor : order) {
    check_tensor(*tensor);
    DR_CHECK_MSG(!header.contains(tensor->name), "two tensors have the same name");
    const int64_t end = begin + written_bytes(*tensor);
    header[tensor->name] = {
        {"dtype", dtype_of(*tensor)}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

/// Bytes go to the file and into its checksum.
class HashedFile {
 public:
  HashedFile(const std::string& path, const std::function<void()>& between_chunks)
      : file_(path), between_chunks_(between_chunks) {}

  void write(std::span<const std::byte> bytes) {
    hasher_.update(bytes);
    file_.write(bytes.data(), bytes.size());
    size_ += static_cast<int64_t>(bytes.size());
  }
  void write_tensor(const TensorToWrite& tensor) {
    const auto numel = static_cast<size_t>(numel_of(tensor));
    for (size_t begin = 0; begin < numel; begin += kChunk) {
      if (between_chunks_) between_chunks_();
      const size_t size = std::min(kChunk, numel - begin);
      if (!tensor.file)
        write_values(tensor.values.subspan(begin, size), tensor.as_bf16);
      else
        write_stored(tensor, begin, size);
    }
  }
  WrittenFile commit() {
    file_.commit();
    return {size_, hasher_.hex()};
  }

 private:
  void write_values(std::span<const float> values, bool as_bf16) {
    if (!as_bf16) return write(std::as_bytes(values));
    rounded_.resize(values.size());
    std::transform(values.begin(), values.end(), rounded_.begin(), float_to_bf16);
    write(std::as_bytes(std::span(rounded_)));
  }
  void write_stored(const TensorToWrite& tensor, size_t begin, size_t size) {
    if (tensor.entry->dtype == dtype_of(tensor)) {
      const auto width = static_cast<size_t>(element_bytes(tensor));
      return write(tensor.file->bytes(*tensor.entry).subspan(begin * width, size * width));
    }
    converted_.resize(size);
    tensor.file->read_float(*tensor.entry, converted_, static_cast<int64_t>(begin));
    write_values(converted_, tensor.as_bf16);
  }

  AtomicFile file_;
  Hasher hasher_;
  int64_t size_ = 0;
  const std::function<void()>& between_chunks_;
  std::vector<uint16_t> rounded_;
  std::vector<float> converted_;
};

}  // namespace

int64_t written_bytes(const TensorToWrite& tensor) { return numel_of(tensor) * element_bytes(tensor); }

WrittenFile write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata,
                              const std::function<void()>& between_chunks) {
  const std::vector<const TensorToWrite*> order = in_file_order(tensors);
  std::string header;
  try {
    header = header_for(order, metadata);
  } catch (const nlohmann::json::exception& error) {  // a name that is not UTF-8
    throw InputError("{}: cannot be written: {}", path, json_error_text(error));
  }
  const uint64_t length = header.size();
  HashedFile file(path, between_chunks);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(header)));
  for (const TensorToWrite* tensor : order) file.write_tensor(*tensor);
  return file.commit();
}

}  // namespace depthroute
