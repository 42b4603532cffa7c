#include "tests/bench/step_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace depthroute::bench {

namespace {

constexpr double kMib = 1 << 20;

const StepRuns* additive_at(const std::vector<StepRuns>& all, int64_t micro_batch) {
  for (const StepRuns& runs : all)
    if (runs.variant == "additive" && runs.micro_batch == micro_batch) return &runs;
  return nullptr;
}

void print_profile(std::vector<ProfileEntry> entries, double seconds, const Machine& machine) {
  std::sort(entries.begin(), entries.end(),
            [](const ProfileEntry& a, const ProfileEntry& b) { return a.seconds > b.seconds; });
  double in_ops = 0;
  fmt::print("\n{:<24}{:>10}{:>10}{:>8}\n", "op", "ms/step", "share", "calls");
  for (const ProfileEntry& entry : entries) {
    if (entry.flops > 0) continue;
    in_ops += entry.seconds;
    fmt::print("{:<24}{:>10.2f}{:>9.1f}%{:>8}\n", entry.name, 1e3 * entry.seconds,
               100 * entry.seconds / seconds, entry.calls);
  }
  fmt::print("{:<24}{:>10.2f}{:>9.1f}%\n", "outside ops", 1e3 * (seconds - in_ops),
             100 * (seconds - in_ops) / seconds);
  for (const ProfileEntry& entry : entries) {
    if (entry.flops == 0) continue;
    const double gflops = entry.flops / entry.seconds / 1e9;
    fmt::print(
        "\n{} (inside gemm and cross_entropy): {:.1f} % of the step at {:.1f} GFLOP/s = {:.1f} % of {:.1f} "
        "GFLOP/s ({})\n",
        entry.name, 100 * entry.seconds / seconds, gflops, 100 * gflops / machine.gflops, machine.gflops,
        machine.gemm);
  }
}

}  // namespace

double utilisation(const StepRuns& runs, double seconds, double peak_flops) {
  return runs.flops_per_token * runs.tokens() / seconds / peak_flops;
}

double overhead(const StepRuns& runs, const StepRuns& base) {
  std::vector<double> ratios;
  for (size_t round = 0; round < std::min(runs.seconds.size(), base.seconds.size()); ++round)
    ratios.push_back(runs.round_median(round) / base.round_median(round));
  if (ratios.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(ratios.begin(), ratios.end());
  const size_t middle = ratios.size() / 2;
  const double median = ratios.size() % 2 == 1 ? ratios[middle] : (ratios[middle - 1] + ratios[middle]) / 2;
  return median - 1;
}

void print_runs(const StepRuns& runs, const Target& target, const Machine& machine, double peak_flops) {
  const double seconds = target.cuda() ? runs.median() : runs.best();
  fmt::print("\n{} on {}: {} x {} sequences of {} tokens\n", runs.variant, describe(target.device),
             runs.micro_batches, runs.micro_batch, runs.seq_len);
  fmt::print("{:.1f} tokens/s, {:.2f} ms per step ({}), {:.1f} GFLOP/s of the model's {:.3f} GFLOP per token",
             runs.tokens() / seconds, 1e3 * seconds, target.cuda() ? "median" : "best",
             runs.flops_per_token * runs.tokens() / seconds / 1e9, runs.flops_per_token / 1e9);
  fmt::print(" = {:.1f} % of {:.1f}\n", 100 * utilisation(runs, seconds, peak_flops), peak_flops / 1e9);
  if (!runs.profile.empty()) print_profile(runs.profile, runs.profile_seconds, machine);
  const double planned = static_cast<double>(runs.planned_bytes) / kMib;
  if (target.cuda()) {
    const double used = static_cast<double>(runs.device_bytes) / kMib;
    fmt::print("\nGPU memory in use {:.1f} MiB, planned {:.1f} MiB\n{}", used, planned, runs.memory);
    return;
  }
  fmt::print("\npeak resident memory {:.1f} MiB, planned {:.1f} MiB, process {:.1f} MiB\n{}",
             runs.peak_resident_mib, planned, runs.peak_resident_mib - planned, runs.memory);
}

void print_table(const std::vector<StepRuns>& all, double peak_flops, const std::string& peak_name) {
  fmt::print("\n{:<12}{:>12}{:>12}{:>12}{:>8}{:>12}{:>12}\n", "variant", "micro-batch", "ms/step", "tokens/s",
             "MFU %", "overhead %", "planned GiB");
  for (const StepRuns& runs : all) {
    const StepRuns* base = additive_at(all, runs.micro_batch);
    const bool compared = base && base != &runs;
    fmt::print("{:<12}{:>12}{:>12.2f}{:>12.0f}{:>8.1f}{:>12}{:>12.2f}\n", runs.variant, runs.micro_batch,
               1e3 * runs.median(), runs.tokens() / runs.median(),
               100 * utilisation(runs, runs.median(), peak_flops),
               compared ? fmt::format("{:+.2f}", 100 * overhead(runs, *base)) : "-",
               static_cast<double>(runs.planned_bytes) / kMib / 1024);
  }
  fmt::print(
      "medians over all rounds; "
      "overhead: median over rounds of (median / median of `additive` in the same round) - 1\n"
      "MFU = (6 * weights that multiply + 6 * layers * seq_len * heads * head_dim) FLOP per token "
      "* tokens / step time / {:.1f} TFLOP/s ({})\n",
      peak_flops / 1e12, peak_name);
}

std::string json_line(const StepRuns& runs, const std::vector<StepRuns>& all, const Target& target,
                      double peak_flops, const std::string& peak_name) {
  nlohmann::ordered_json line = {
      {"name", runs.variant},
      {"implementation", "depthroute"},
      {"device", to_string(target.device)},
      {"precision", to_string(target.act)},
      {"seq_len", runs.seq_len},
      {"micro_batch", runs.micro_batch},
      {"micro_batches", runs.micro_batches},
      {"rounds", runs.seconds.size()},
      {"step_ms", 1e3 * runs.median()},
      {"best_ms", 1e3 * runs.best()},
      {"tokens_per_s", runs.tokens() / runs.median()},
      {"gflop_per_token", runs.flops_per_token / 1e9},
      {"planned_mib", static_cast<double>(runs.planned_bytes) / kMib},
      {"memory_mib", target.cuda() ? static_cast<double>(runs.device_bytes) / kMib : runs.peak_resident_mib},
      {"loss", runs.loss}};
  if (peak_flops > 0) {
    line["mfu"] = utilisation(runs, runs.median(), peak_flops);
    line["peak_tflops"] = peak_flops / 1e12;
    line["peak"] = peak_name;
  }
  const StepRuns* base = additive_at(all, runs.micro_batch);
  if (base && base != &runs && !base->seconds.empty()) line["overhead"] = overhead(runs, *base);
  nlohmann::ordered_json rounds = nlohmann::ordered_json::array();
  for (size_t round = 0; round < runs.seconds.size(); ++round)
    rounds.push_back(1e3 * runs.round_median(round));
  line["round_ms"] = rounds;
  nlohmann::ordered_json shares = nlohmann::ordered_json::object();
  for (const ProfileEntry& entry : runs.profile)
    if (entry.flops == 0) shares[std::string(entry.name)] = entry.seconds / runs.profile_seconds;
  if (!shares.empty()) line["shares"] = shares;
  return line.dump();
}

}  // namespace depthroute::bench
