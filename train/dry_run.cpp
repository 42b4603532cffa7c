#include "train/dry_run.h"

#include <array>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "kernels/memory_table.h"
#include "train/batches.h"
#include "train/checkpoint/saver.h"
#include "train/run_data.h"

namespace depthroute {

namespace {

/// 1234567 -> "1,234,567"
std::string grouped(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string result;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

enum Kind : uint8_t { embedding, attention, mlp, norms, routing, kNumKinds };

Kind kind_of(const Parameter& parameter) {
  const std::string& name = parameter.name;
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("_res_")) return routing;
  if (!parameter.decay) return norms;
  if (has("self_attn")) return attention;
  if (has(".mlp.")) return mlp;
  return embedding;
}

std::string describe_plan(const DepthPlan& plan) {
  std::string sources, restarts;
  for (int s = 0; s < static_cast<int>(plan.sites.size()); ++s) {
    sources += fmt::format("{}{}", s ? " " : "", plan.sites[s].num_sources());
    if (plan.sites[s].restart) restarts += fmt::format(" {}", s + 1);
  }
  int64_t kept = 0;
  for (const bool k : plan.kept) kept += k;
  return fmt::format(
      "depth plan    {} sites, {} sublayers per block, {} states read by later sites, {} gradient slots\n"
      "              sources per site: {}\n"
      "              states that restart:{}\n",
      plan.sites.size(), plan.sublayers_per_block, kept, plan.num_gradient_slots, sources,
      restarts.empty() ? " none" : restarts);
}

/// The first pattern that names no file, if any.
std::optional<std::string> missing_file(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    try {
      for (const std::string& path : expand_patterns({pattern}))
        if (!std::filesystem::exists(path)) return path;
    } catch (const DataError&) {
      return pattern;
    }
  }
  return std::nullopt;
}

std::string describe_data(const std::string& name, const std::vector<std::string>& patterns,
                          const TrainConfig& config, int64_t wanted_sequences) {
  if (patterns.empty()) return fmt::format("{:<14}none\n", name);
  if (const std::optional<std::string> missing = missing_file(patterns))
    return fmt::format("{:<14}note: {} does not exist yet; left out of this report\n", name, *missing);
  const TokenStream stream(patterns, config.model.vocab_size);
  const Batches batches(stream, config.data.seq_len, DataOrder::sequential, config.seed);
  return fmt::format("{:<14}{} tokens in {} shards, {} sequences of {}: {:.3f} epochs will be seen\n", name,
                     grouped(stream.num_tokens()), stream.shards().size(), grouped(batches.num_samples()),
                     config.data.seq_len,
                     static_cast<double>(wanted_sequences) / static_cast<double>(batches.num_samples()));
}

/// A line for every source, with how much of it the whole run draws.
std::string describe_training_data(const TrainConfig& config) {
  const int64_t wanted = config.train.steps * config.train.global_batch;
  if (config.data.mix.empty()) return describe_data("data.train", config.data.train, config, wanted);
  const std::vector<int64_t> parts = mix_parts(config);
  const auto cycle = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  const Mix mix(parts);
  std::string text = fmt::format("{:<14}{} sources, drawn from in a cycle of {} sequences\n", "data.mix",
                                 parts.size(), grouped(cycle));
  for (int64_t i = 0; i < mix.num_sources(); ++i)
    text +=
        describe_data(fmt::format("  {:.4g} %", 100.0 * static_cast<double>(parts[static_cast<size_t>(i)]) /
                                                    static_cast<double>(cycle)),
                      config.data.mix[static_cast<size_t>(i)].shards, config, mix.draws(i, wanted));
  return text;
}

}  // namespace

std::string describe_parameters(const ParameterLayout& layout) {
  std::array<int64_t, kNumKinds> count{};
  for (const Parameter& parameter : layout.all()) count[kind_of(parameter)] += parameter.numel();
  return fmt::format("{} parameters (embedding {}, attention {}, mlp {}, norms {}, routing {})",
                     grouped(layout.num_parameters()), grouped(count[embedding]), grouped(count[attention]),
                     grouped(count[mlp]), grouped(count[norms]), grouped(count[routing]));
}

std::string describe_memory(const TrainingStep& step) {
  const Arena& arena = step.arena();
  const int64_t process = process_bytes(arena.device());
  const int64_t copy = CheckpointSaver::snapshot_bytes(step.layout(), step.partition());
  const bool on_host = arena.device() == Device::cpu;
  MemoryTable table;
  table.add_purposes(arena);
  table.add("planned", arena.total_bytes());
  if (on_host) table.add("checkpoint copy", copy, "(what is written while training goes on)");
  table.add("process", process, "(program, libraries, their buffers)");
  table.add("total", arena.total_bytes() + process + (on_host ? copy : 0));
  if (!on_host) table.add("host memory", copy, "(checkpoint copy: what is written while training goes on)");
  return table.text();
}

/// What each choice of train.recompute needs, and what it computes twice.
std::string describe_recomputation(const TrainConfig& config, Device device) {
  std::string text =
      fmt::format("recomputation {:<8}{:>16}   {}\n", "", "planned memory", "extra work per step");
  const double tokens = static_cast<double>(config.train.global_batch * config.data.seq_len);
  const double whole = Qwen3::train_flops_per_token(config.model, config.data.seq_len);
  for (const Recompute recompute : values<Recompute>()) {
    TrainConfig choice = config;
    choice.train.recompute = recompute;
    const TrainingStep step(choice, device);
    const double flops = Qwen3::recompute_flops_per_token(config.model, config.data.seq_len, recompute);
    const double bytes = step.model().recompute_bytes_per_token();
    std::string work =
        recompute == Recompute::none ? "none" : fmt::format("{:.3g} GB moved", bytes * tokens / 1e9);
    if (flops > 0) work += fmt::format(", {:+.1f} % matrix products", 100 * flops / whole);
    text += fmt::format("{:>13} {:<8}{:>16}   {}\n", config.train.recompute == recompute ? "->" : "",
                        to_string(recompute), format_bytes(step.arena().total_bytes()), work);
  }
  return text;
}

std::string dry_run_report(const TrainConfig& config) {
  const Device device = resolve_device(config.device, Use::planning);
  const TrainingStep step(config, device);
  const double flops = Qwen3::train_flops_per_token(config.model, config.data.seq_len);
  const int64_t tokens_per_step = config.train.global_batch * config.data.seq_len;
  std::string text;
  text += fmt::format("device        {}\n", describe(device));
  text += fmt::format("model         {}: {} layers, hidden {}, vocabulary {}\n",
                      to_string(config.model.residual.variant), config.model.num_layers,
                      config.model.hidden_size, config.model.vocab_size);
  text += fmt::format("              {}\n", describe_parameters(step.layout()));
  text += fmt::format("steps         {} of {} sequences x {} tokens = {} tokens in all, micro-batch {}\n",
                      grouped(config.train.steps), config.train.global_batch, config.data.seq_len,
                      grouped(config.train.steps * tokens_per_step), config.train.micro_batch);
  text += fmt::format(
      "work          {:.4g} GFLOP per token, {:.4g} TFLOP per step (matrix products, forward and backward)\n",
      flops / 1e9, flops * static_cast<double>(tokens_per_step) / 1e12);
  text += describe_plan(step.model().plan());
  text += describe_training_data(config);
  text += describe_data("data.val", config.data.val, config, config.validate.sequences);
  text += "memory\n" + describe_memory(step);
  return text + describe_recomputation(config, device);
}

}  // namespace depthroute
