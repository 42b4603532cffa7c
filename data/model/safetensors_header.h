// Internal to data/: the JSON header of a safetensors file, parsed and checked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/model/safetensors.h"

namespace depthroute {

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // in order of offset, without holes or overlaps
  std::map<std::string, std::string> metadata;
};

/// Bits per element; 0 for a dtype the format does not have.
int dtype_bits(std::string_view dtype);

/// `data_size`: bytes in the file after the header. DataError "<where>: ..." for everything the format
/// forbids.
SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_size,
                                           const std::string& where);

}  // namespace depthroute
