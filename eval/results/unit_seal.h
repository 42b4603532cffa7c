// The seal of a unit file: a checksum of everything after the user block, stored in the user block, which
// HDF5 leaves alone. It is checked first, because HDF5 has checksums for arrays but none for what holds them
// together, and its library can crash on damage there. It guards against damage, not forgery: whoever can
// write a unit can seal it.
#pragma once

#include <cstdint>
#include <string>

namespace depthroute {

inline constexpr const char* kUnitKind = "depthroute-eval unit";
inline constexpr int64_t kSealBytes = 512;

/// The user block that the file at `path` must have. DataError if it cannot be read or has no room for one.
std::string seal_of(const std::string& path);
/// DataError unless the file has that user block. Touches nothing of HDF5.
void check_seal(const std::string& path);

}  // namespace depthroute
