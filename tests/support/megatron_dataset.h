// Writes Megatron-LM's indexed datasets byte by byte, independently of the reader.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/temp_folder.h"

namespace depthroute {

/// The contents of NAME.idx and NAME.bin. Tests damage single members before they write them.
struct MegatronDataset {
  uint64_t version = 1;
  uint8_t code = 4;
  std::vector<int32_t> lengths;
  std::vector<int64_t> pointers, boundaries = {0};
  std::string modes, bin;
  uint64_t sequence_count = 0, boundary_count = 1;  // as the header says

  explicit MegatronDataset(uint8_t type_code = 4) : code(type_code) {}

  /// Appends one document of these sequences.
  MegatronDataset& document(const std::vector<std::vector<int64_t>>& sequences) {
    static const std::map<int, size_t> kBytes = {{1, 1}, {2, 1}, {3, 2}, {4, 4},
                                                 {5, 8}, {6, 8}, {7, 4}, {8, 2}};
    const size_t bytes = kBytes.at(code);
    for (const std::vector<int64_t>& sequence : sequences) {
      lengths.push_back(static_cast<int32_t>(sequence.size()));
      pointers.push_back(static_cast<int64_t>(bin.size()));
      for (const int64_t token : sequence) bin.append(reinterpret_cast<const char*>(&token), bytes);
    }
    boundaries.push_back(static_cast<int64_t>(lengths.size()));
    sequence_count = lengths.size();
    boundary_count = boundaries.size();
    return *this;
  }

  std::string index() const {
    std::string bytes("MMIDIDX\0\0", 9);
    const auto put = [&](const auto& value) {
      bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    put(version), put(code), put(sequence_count), put(boundary_count);
    for (const int32_t length : lengths) put(length);
    for (const int64_t pointer : pointers) put(pointer);
    for (const int64_t boundary : boundaries) put(boundary);
    return bytes + modes;
  }

  /// Returns the path of the index.
  std::string write(const std::string& prefix) const {
    write_raw(prefix + ".idx", index());
    write_raw(prefix + ".bin", bin);
    return prefix + ".idx";
  }
};

}  // namespace depthroute
