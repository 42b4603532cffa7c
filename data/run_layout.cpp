#include "data/run_layout.h"

#include <fmt/format.h>

namespace depthroute {
namespace {

constexpr std::string_view kMetrics = "metrics.jsonl", kContents = "data_checksums.json",
                           kGemmChoices = "gemm_choices.json", kLatest = "latest";
constexpr std::string_view kStep = "step_", kMoments = "optimizer", kTensors = ".safetensors";

}  // namespace

std::string lock_path(const std::string& output) { return output + "/lock"; }
std::string metrics_path(const std::string& output) { return fmt::format("{}/{}", output, kMetrics); }
std::string tensorboard_path(const std::string& output) { return output + "/tensorboard"; }
std::string contents_path(const std::string& output) { return fmt::format("{}/{}", output, kContents); }
std::string gemm_choices_path(const std::string& output) {
  return fmt::format("{}/{}", output, kGemmChoices);
}
std::string checkpoints_path(const std::string& output) { return output + "/checkpoints"; }
std::string latest_path(const std::string& output) {
  return fmt::format("{}/{}", checkpoints_path(output), kLatest);
}
std::string checkpoint_path(const std::string& output, int64_t step) {
  return fmt::format("{}/{}", checkpoints_path(output), checkpoint_name(step));
}

bool is_run_entry(std::string_view name) {
  return name == kMetrics || name == kContents || name == kGemmChoices || name == kLatest ||
         step_of_checkpoint(name);
}

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:08}", kStep, step); }

std::optional<int64_t> step_of_checkpoint(std::string_view name) {
  if (!name.starts_with(kStep)) return std::nullopt;
  const std::string_view digits = name.substr(kStep.size());
  if (digits.size() < 8 || digits.size() > 15) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return std::stoll(std::string(digits));
}

std::string checkpoint_model_path(const std::string& folder) {
  return fmt::format("{}/{}", folder, kModelName);
}

std::string moments_name(int rank, int ranks) {
  if (ranks == 1) return fmt::format("{}{}", kMoments, kTensors);
  return fmt::format("{}-{:05}-of-{:05}{}", kMoments, rank + 1, ranks, kTensors);
}

bool is_moments_name(std::string_view name) { return name.starts_with(kMoments) && name.ends_with(kTensors); }

}  // namespace depthroute
