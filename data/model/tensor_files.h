// The tensors of a folder, single (model.safetensors) or sharded (model.safetensors.index.json and the files it
// names), whatever program wrote them and whatever they are called.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "data/model/safetensors.h"

namespace depthroute {

/// A tensor and the file it is in.
struct StoredTensor {
  const SafetensorsFile* file;
  const TensorEntry* entry;
};

class TensorFiles {
 public:
  TensorFiles() = default;
  /// Maps the folder's files; every one must agree with the index. Appends what is read as text (the index) to
  /// `texts`. DataError for anything missing or odd.
  TensorFiles(const std::string& folder, std::vector<ManifestFile>& texts);

  const std::vector<SafetensorsFile>& files() const { return files_; }
  std::optional<StoredTensor> find(const std::string& name) const;
  /// In the order of the files.
  std::vector<std::string> names() const;
  /// Whether both are there and equal in dtype, shape and every byte.
  bool same(const std::string& name, const std::string& other) const;

 private:
  std::vector<SafetensorsFile> files_;
};

/// Reads a file of the folder and notes its size and checksum.
std::string read_noted(const std::string& folder, const std::string& name, std::vector<ManifestFile>& notes);

/// Drops leading sizes of 1: [1, D] and [D], [] and [1] are the same shape.
std::vector<int64_t> without_leading_ones(std::vector<int64_t> shape);

}  // namespace depthroute
