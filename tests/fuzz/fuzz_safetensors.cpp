// Any bytes as a safetensors file: refused with an InputError of one line, or all its numbers can be written,
// read again and are the same.
#include <cmath>
#include <cstring>
#include <vector>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/model/safetensors.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::SafetensorsFile;
using depthroute::TensorEntry;
using depthroute::TensorToWrite;

const std::string& scratch_path() {
  static const depthroute::ScratchFolder folder;
  static const std::string path = folder / "m";
  return path;
}

bool same(float a, float b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0 || (std::isnan(a) && std::isnan(b));
}

void round_trip(const SafetensorsFile& file) {
  std::vector<std::vector<float>> values;
  std::vector<TensorToWrite> tensors;
  for (const TensorEntry& entry : file.entries()) {
    DR_CHECK(file.find(entry.name) == &entry);
    DR_CHECK(entry.numel() >= 0);
    DR_CHECK(static_cast<int64_t>(file.bytes(entry).size()) == entry.end - entry.begin);
    if (entry.dtype != "F32" && entry.dtype != "BF16" && entry.dtype != "F16") continue;
    values.emplace_back(static_cast<size_t>(entry.numel()));
    file.read_float(entry, values.back());
    tensors.push_back({entry.name, entry.shape, values.back(), entry.dtype == "BF16"});
  }
  depthroute::write_safetensors(scratch_path(), tensors, file.metadata());
  const SafetensorsFile again(scratch_path());
  DR_CHECK(again.metadata() == file.metadata());
  DR_CHECK(again.entries().size() == tensors.size());
  for (const TensorToWrite& tensor : tensors) {
    const TensorEntry* entry = again.find(tensor.name);
    DR_CHECK(entry != nullptr && entry->shape == tensor.shape);
    std::vector<float> read(tensor.values.size());
    again.read_float(*entry, read);
    for (size_t i = 0; i < read.size(); ++i) DR_CHECK(same(read[i], tensor.values[i]));
  }
}

void try_file(const uint8_t* data, size_t size) {
  const depthroute::MemoryFile file(data, size);
  try {
    round_trip(SafetensorsFile(file.path()));
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
}

/// The input as header text with as many bytes of data behind it as its first byte says.
void try_header(const uint8_t* data, size_t size) {
  const size_t data_bytes = data[0];
  const uint64_t length = size - 1;
  std::vector<uint8_t> file(8 + length + data_bytes, 0x3f);
  std::memcpy(file.data(), &length, 8);
  std::memcpy(file.data() + 8, data + 1, length);
  try_file(file.data(), file.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_file(data, size);
  if (size > 0) try_header(data, size);
  return 0;
}
