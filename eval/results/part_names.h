// What part files call things, for their writer and their reader.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace depthroute {

inline constexpr const char *kCleanNll = "clean_nll", *kDeltaNll = "delta_nll", *kKl = "kl",
                            *kFlips = "flips", *kLargestChange = "largest_change";
inline constexpr const char *kMean = "weight_mean", *kSumSquares = "weight_sum_squares",
                            *kLowest = "weight_lowest", *kHighest = "weight_highest",
                            *kEntropy = "entropy_sum", *kWeights = "weights";

/// "/batch_00012/": batches are numbered through the whole evaluation.
inline std::string batch_group(int64_t index) { return fmt::format("/batch_{:05}/", index); }

}  // namespace depthroute
