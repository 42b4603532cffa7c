// How one algorithm is taken from the candidates for a product, whatever computes it: cuBLASLt (gemm.cpp) or the
// loops of the emulated device (tests/cuda_on_host). Includes no CUDA header.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/gemm_choices.h"

namespace depthroute::cuda {

// kernels/gemm_choices.h for the current device.
GemmContext gemm_context();
GemmChoices tune_gemm(const std::function<void()>& body);
void use_gemm_choices(const GemmChoices& choices);

/// Asked for at most this many candidates, a library's heuristics hold the fastest almost always.
inline constexpr int kMostCandidates = 8;
/// How often each is timed, after one run that is not: the median counts.
inline constexpr int kTurns = 7;

/// Returns the median time of each of `count` candidates in microseconds, infinity for those that failed.
/// `time` computes the product by one of them and returns the time, or infinity. The candidates take turns, so
/// that a change of clock rate meets all of them.
std::vector<double> median_times(size_t count, const std::function<double(size_t)>& time);
/// Returns the index of the smallest, or 0 unless that is more than 2 % below the first: timings that close are
/// noise, and the library's own choice repeats. All infinite: nothing.
std::optional<size_t> fastest(std::span<const double> microseconds);

std::string to_hex(std::span<const std::byte> bytes);
/// Returns nothing unless `text` is `size` bytes in lower-case hexadecimal digits.
std::optional<std::vector<std::byte>> from_hex(const std::string& text, size_t size);

/// The choices in force on one device. For one thread at a time.
class GemmChooser {
 public:
  using Candidates = std::function<std::vector<std::string>()>;      // algorithms, the library's first first
  using Time = std::function<double(const std::string& algorithm)>;  // microseconds, or infinity

  /// Returns the algorithm for a product; "" for the library's first. While tuning, a product without a choice
  /// gets one. SystemError if no candidate works.
  std::string choose(const GemmProduct& product, const Candidates& candidates, const Time& time);

  /// Forgets all choices.
  void begin_tuning();
  /// Keeps the choices made since.
  void end_tuning() { tuning_ = false; }
  void use(const GemmChoices& choices) { choices_ = choices; }
  const GemmChoices& choices() const { return choices_; }

 private:
  bool tuning_ = false;
  GemmChoices choices_;
};

}  // namespace depthroute::cuda
