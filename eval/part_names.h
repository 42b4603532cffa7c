// What part files call things and how they are sealed, for their writer and their reader. HDF5 has checksums
// for arrays but none for what holds them together, and its library can crash on damage there: so the user
// block, which HDF5 leaves alone, has a checksum of all that follows, to be looked at first.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace depthroute {

inline constexpr const char* kPartKind = "depthroute-eval part";
inline constexpr const char *kCleanNll = "clean_nll", *kDeltaNll = "delta_nll", *kKl = "kl",
                            *kFlips = "flips", *kLargestChange = "largest_change";
inline constexpr const char *kMean = "weight_mean", *kSumSquares = "weight_sum_squares",
                            *kLowest = "weight_lowest", *kHighest = "weight_highest",
                            *kEntropy = "entropy_sum", *kWeights = "weights";

inline constexpr int64_t kSealBytes = 512;
/// The user block a finished part must have. DataError if it cannot be read or has no room for one.
std::string seal_of(const std::string& path);

/// "/batch_00012/": batches are numbered through the whole evaluation.
inline std::string batch_group(int64_t index) { return fmt::format("/batch_{:05}/", index); }

}  // namespace depthroute
