#include "train/product_choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/run_layout.h"
#include "kernels/gemm_choices.h"
#include "train/checkpoint/gemm_choices_file.h"

namespace depthroute {
namespace {

const StoredGemmChoices* find(const std::vector<StoredGemmChoices>& all, const GemmContext& context) {
  const auto at = std::find_if(all.begin(), all.end(),
                               [&](const StoredGemmChoices& one) { return one.context == context; });
  return at == all.end() ? nullptr : &*at;
}

/// The file of the run that `checkpoint`, a folder <output>/checkpoints/<name>, belongs to.
std::string path_beside(const std::string& checkpoint) {
  const std::filesystem::path checkpoints = std::filesystem::path(checkpoint).parent_path();
  return gemm_choices_path(checkpoints.parent_path().string());
}

std::string text_of(const GemmContext& context) {
  return fmt::format("{} with {}", context.device, context.library);
}

struct Decision {
  StoredGemmChoices choices;
  std::vector<std::string> lines;
};

/// On rank 0.
Decision decide(const TrainConfig& config, const Start& start, TrainingStep& step, const GemmContext& here) {
  const std::string path = gemm_choices_path(config.output);
  std::vector<StoredGemmChoices> stored = read_gemm_choices(path);
  if (const StoredGemmChoices* known = find(stored, here)) return {*known, {}};

  Decision decision{{here, {}}, {}};
  std::vector<StoredGemmChoices> theirs;
  if (!start.checkpoint.empty()) theirs = read_gemm_choices(path_beside(start.checkpoint));
  if (const StoredGemmChoices* known = find(theirs, here)) {
    decision.choices = *known;
  } else {
    if (!start.checkpoint.empty())
      decision.lines.push_back(fmt::format(
          "note: no choice of algorithms is stored for {}: the run's bits may differ from here on",
          text_of(here)));
    if (config.train.tune_products && !config.deterministic) {
      const auto begin = std::chrono::steady_clock::now();
      decision.choices.choices = tune_gemm(step.stream(), [&] { step.rehearse(); });
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      decision.lines.push_back(
          fmt::format("timed {}, in {:.1f} s", summarize(decision.choices.choices), seconds.count()));
    }
  }
  stored.push_back(decision.choices);
  write_file_atomically(path, gemm_choices_to_json(stored));
  return decision;
}

}  // namespace

std::vector<std::string> settle_products(World& world, const TrainConfig& config, const Start& start,
                                         TrainingStep& step) {
  if (!has_gemm_choices(step.stream().device)) return {};
  const GemmContext here = gemm_context(step.stream());
  Decision decision;
  if (world.is_rank_0()) decision = decide(config, start, step, here);
  const std::string text = world.broadcast(world.is_rank_0() ? gemm_choices_to_json({decision.choices}) : "");
  const StoredGemmChoices agreed = gemm_choices_from_json(text, "choices of rank 0").at(0);
  const bool same = agreed.context == here;
  world.together([&] {
    try {
      use_gemm_choices(step.stream(), same ? agreed.choices : GemmChoices{});
    } catch (const DataError& error) {
      throw DataError("{}: {}: restore it, or remove it to time the products again, which may change bits",
                      gemm_choices_path(config.output), error.what());
    }
  });
  const std::vector<std::string> others = world.gather(same ? "" : text_of(here));
  for (size_t rank = 0; rank < others.size(); ++rank)
    if (!others[rank].empty())
      decision.lines.push_back(
          fmt::format("note: rank {} has {}, rank 0 {}: it takes its library's first candidates", rank,
                      others[rank], text_of(here)));
  return decision.lines;
}

}  // namespace depthroute
