#include "kernels/cuda/gemm_chooser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "configs/base/error.h"

namespace depthroute::cuda {
namespace {

constexpr double kGain = 0.98;
constexpr char kDigits[] = "0123456789abcdef";

}  // namespace

std::vector<double> median_times(size_t count, const std::function<double(size_t)>& time) {
  std::vector<std::vector<double>> times(count);
  std::vector<bool> works(count);
  for (size_t i = 0; i < count; ++i) works[i] = std::isfinite(time(i));  // loads kernels, fills caches
  for (int turn = 0; turn < kTurns; ++turn)
    for (size_t i = 0; i < count; ++i)
      if (works[i]) times[i].push_back(time(i));
  std::vector<double> medians(count, std::numeric_limits<double>::infinity());
  for (size_t i = 0; i < count; ++i) {
    if (!works[i]) continue;
    std::sort(times[i].begin(), times[i].end());
    // One failure is enough to reject a candidate.
    if (std::isfinite(times[i].back())) medians[i] = times[i][kTurns / 2];
  }
  return medians;
}

std::optional<size_t> fastest(std::span<const double> microseconds) {
  const auto least = std::min_element(microseconds.begin(), microseconds.end());
  if (least == microseconds.end() || !std::isfinite(*least)) return std::nullopt;
  if (*least >= kGain * microseconds.front()) return 0;
  return static_cast<size_t>(least - microseconds.begin());
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

std::optional<std::vector<std::byte>> from_hex(const std::string& text, size_t size) {
  if (text.size() != 2 * size || text.find_first_not_of(kDigits) != std::string::npos) return std::nullopt;
  const auto value = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(16 * value(text[2 * i]) + value(text[2 * i + 1]));
  return bytes;
}

std::string GemmChooser::choose(const GemmProduct& product, const Candidates& candidates, const Time& time) {
  if (const auto at = choices_.find(product); at != choices_.end()) return at->second.algorithm;
  if (!tuning_) return "";
  const std::vector<std::string> algorithms = candidates();
  if (algorithms.empty()) return "";
  const std::vector<double> times =
      median_times(algorithms.size(), [&](size_t i) { return time(algorithms[i]); });
  const std::optional<size_t> best = fastest(times);
  if (!best) throw SystemError("none of {} algorithms computes {}", algorithms.size(), to_string(product));
  choices_[product] = {.algorithm = algorithms[*best],
                       .rank = static_cast<int64_t>(*best),
                       .candidates = static_cast<int64_t>(algorithms.size()),
                       .microseconds = times[*best],
                       .first_microseconds = std::isfinite(times[0]) ? times[0] : -1.0};
  return algorithms[*best];
}

void GemmChooser::begin_tuning() {
  choices_.clear();
  tuning_ = true;
}

}  // namespace depthroute::cuda
