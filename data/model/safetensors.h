// safetensors, the format's whole validation on reading (notes in data/README.md), atomic writing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace depthroute {

struct TensorEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16", "F16", "I64" ... as in the file
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, relative to the data section
  int64_t numel() const;
};

class SafetensorsFile {
 public:
  /// Maps and validates the file. Throws DataError.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;

  const std::string& path() const;
  const std::vector<TensorEntry>& entries() const;         // in order of offset
  const TensorEntry* find(const std::string& name) const;  // nullptr if absent
  const std::map<std::string, std::string>& metadata() const;
  std::span<const std::byte> bytes(const TensorEntry& entry) const;
  /// The whole file as it is mapped, header included.
  std::span<const std::byte> file_bytes() const;
  /// Throws DataError for a dtype that read_float() cannot read.
  void check_float(const TensorEntry& entry) const;
  /// F32, BF16 or F16 as float32: out.size() elements from element `first` on. Throws DataError for any other
  /// dtype.
  void read_float(const TensorEntry& entry, std::span<float> out, int64_t first = 0) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One tensor to be written; the values stay the caller's, in memory or in an open file. Written as F32, or
/// rounded to nearest-even BF16; a stored tensor of that dtype already is copied byte for byte.
struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  std::span<const float> values;
  bool as_bf16 = false;
  const SafetensorsFile* file = nullptr;  // not null: `entry`, of this file, instead of `values`
  const TensorEntry* entry = nullptr;     // F32, BF16 or F16 (check_float())
};
/// Bytes that its values take in a file.
int64_t written_bytes(const TensorToWrite& tensor);
/// What was written: size, and hash_file() as it should be, taken of the bytes before they left memory.
struct WrittenFile {
  int64_t size = 0;
  std::string checksum;
};
/// Streams to a temporary file beside `path`, fsyncs, renames. Header padded to 8 bytes. Throws SystemError.
/// `between_chunks` is called every MiB; what it throws ends the writing, and nothing remains.
WrittenFile write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {},
                              const std::function<void()>& between_chunks = {});

float bf16_to_float(uint16_t bits);
uint16_t float_to_bf16(float value);  // round to nearest even, NaN stays NaN
float f16_to_float(uint16_t bits);

}  // namespace depthroute
