#include "train/validation.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/host_view.h"

namespace depthroute {

namespace {

using Mass = std::array<double, kNumFamilies>;

/// Mean over the sites that `chosen` accepts; null where there is none.
template <typename Chosen>
nlohmann::ordered_json mean_mass(const DepthPlan& plan, const std::vector<Mass>& sums, double tokens,
                                 Chosen chosen) {
  Mass mean{};
  int sites = 0;
  for (size_t s = 0; s < sums.size(); ++s) {
    if (!plan.sites[s].routed || !chosen(plan.sites[s])) continue;
    ++sites;
    for (int f = 0; f < kNumFamilies; ++f) mean[f] += sums[s][f] / tokens;
  }
  if (sites == 0) return nullptr;
  nlohmann::ordered_json object;
  for (int f = 0; f < kNumFamilies; ++f) object[to_string(static_cast<Family>(f))] = mean[f] / sites;
  return object;
}

Mass site_mass(const TrainingStep& step, int site) {
  const HostView weights(step.stream(), step.model().trace(site).weights);
  return family_mass(step.model().plan().sites[site],
                     {weights.tensor().data<float>(), static_cast<size_t>(weights.tensor().numel())});
}

std::string to_bytes(const std::vector<double>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}
std::vector<double> from_bytes(const std::string& bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());  // a rank may have no batch
  return values;
}

}  // namespace

Mass family_mass(const Site& site, std::span<const float> weights) {
  const auto n = static_cast<size_t>(site.num_sources());
  Mass mass{};
  for (size_t i = 0; i < weights.size(); ++i)
    mass[static_cast<int>(site.family(static_cast<int>(i % n)))] += weights[i];
  return mass;
}

nlohmann::ordered_json validate(World& world, TrainingStep& step, const Batches& data, int64_t sequences) {
  const Qwen3& model = step.model();
  const DepthPlan& plan = model.plan();
  const int64_t count = std::min(sequences, data.num_samples());
  const int64_t micro_batch = model.options().micro_batch, seq_len = model.options().seq_len;
  const BatchSource batch = data.at(0);
  const auto sites = static_cast<int64_t>(plan.sites.size()), columns = 1 + sites * kNumFamilies;
  const int64_t batches = div_ceil(count, micro_batch), share = div_ceil(batches, int64_t{world.size()});
  const int64_t begin = std::min(batches, world.rank() * share), end = std::min(batches, begin + share);
  std::vector<double> rows;  // per micro-batch of this rank: nll, then the families' mass per site
  for (int64_t b = begin; b < end; ++b) {
    const int64_t first = b * micro_batch;
    rows.push_back(step.evaluate(first, std::min(micro_batch, count - first), batch));
    for (int64_t s = 0; s < sites; ++s) {
      const Mass mass = plan.sites[s].routed ? site_mass(step, static_cast<int>(s)) : Mass{};
      rows.insert(rows.end(), mass.begin(), mass.end());
    }
  }

  double nll = 0;
  std::vector<Mass> sums(plan.sites.size(), Mass{});
  for (const std::string& part : world.gather(to_bytes(rows))) {
    const std::vector<double> values = from_bytes(part);
    for (size_t row = 0; row < values.size(); row += static_cast<size_t>(columns)) {
      nll += values[row];
      for (size_t i = 1; i < static_cast<size_t>(columns); ++i)
        sums[(i - 1) / kNumFamilies][(i - 1) % kNumFamilies] += values[row + i];
    }
  }
  if (!world.is_rank_0()) return {};

  const auto tokens = static_cast<double>(count * seq_len);
  nlohmann::ordered_json object = {{"val_loss", nll / tokens}, {"val_tokens", count * seq_len}};
  nlohmann::ordered_json mass = mean_mass(plan, sums, tokens, [](const Site&) { return true; });
  if (mass.is_null()) return object;
  for (const Sublayer kind : {Sublayer::attn, Sublayer::mlp})
    mass[to_string(kind)] =
        mean_mass(plan, sums, tokens, [kind](const Site& site) { return site.sublayer == kind; });
  object["routing_mass"] = std::move(mass);
  return object;
}

}  // namespace depthroute
