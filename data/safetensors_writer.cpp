#include <algorithm>
#include <nlohmann/json.hpp>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"
#include "data/safetensors.h"

namespace depthroute {
namespace {

constexpr size_t kAlignment = 8;
constexpr size_t kChunk = size_t{1} << 16;  // values rounded at a time

int64_t element_bytes(const TensorToWrite& tensor) { return tensor.as_bf16 ? 2 : 4; }

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
  DR_CHECK_MSG(numel == static_cast<int64_t>(tensor.values.size()),
               "a tensor's values do not fill its shape");
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
    const int64_t end = begin + static_cast<int64_t>(tensor->values.size()) * element_bytes(*tensor);
    header[tensor->name] = {{"dtype", tensor->as_bf16 ? "BF16" : "F32"},
                            {"shape", tensor->shape},
                            {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

void write_values(AtomicFile& file, const TensorToWrite& tensor) {
  if (!tensor.as_bf16) return file.write(tensor.values.data(), tensor.values.size_bytes());
  std::vector<uint16_t> rounded(std::min(kChunk, tensor.values.size()));
  for (size_t begin = 0; begin < tensor.values.size(); begin += kChunk) {
    const auto part = tensor.values.subspan(begin, std::min(kChunk, tensor.values.size() - begin));
    std::transform(part.begin(), part.end(), rounded.begin(), float_to_bf16);
    file.write(rounded.data(), part.size() * sizeof(uint16_t));
  }
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::vector<const TensorToWrite*> order = in_file_order(tensors);
  std::string header;
  try {
    header = header_for(order, metadata);
  } catch (const nlohmann::json::exception& error) {  // a name that is not UTF-8
    throw InputError("{}: cannot be written: {}", path, json_error_text(error));
  }
  const uint64_t length = header.size();
  AtomicFile file(path);
  file.write(&length, sizeof(length));
  file.write(header);
  for (const TensorToWrite* tensor : order) write_values(file, *tensor);
  file.commit();
}

}  // namespace depthroute
