#include "train/validation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
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

}  // namespace

Mass family_mass(const Site& site, std::span<const float> weights) {
  const auto n = static_cast<size_t>(site.num_sources());
  Mass mass{};
  for (size_t i = 0; i < weights.size(); ++i)
    mass[static_cast<int>(site.family(static_cast<int>(i % n)))] += weights[i];
  return mass;
}

nlohmann::ordered_json validate(TrainingStep& step, const Batches& data, int64_t sequences) {
  const Qwen3& model = step.model();
  const DepthPlan& plan = model.plan();
  const int64_t count = std::min(sequences, data.num_samples());
  const int64_t micro_batch = model.options().micro_batch, seq_len = model.options().seq_len;
  const BatchSource batch = data.at(0);
  std::vector<Mass> sums(plan.sites.size(), Mass{});
  double nll = 0;
  for (int64_t first = 0; first < count; first += micro_batch) {
    nll += step.evaluate(first, std::min(micro_batch, count - first), batch);
    for (size_t s = 0; s < sums.size(); ++s) {
      if (!plan.sites[s].routed) continue;
      const HostView weights(step.stream(), model.trace(static_cast<int>(s)).weights);
      const Mass mass = family_mass(
          plan.sites[s], {weights.tensor().data<float>(), static_cast<size_t>(weights.tensor().numel())});
      for (int f = 0; f < kNumFamilies; ++f) sums[s][f] += mass[f];
    }
  }

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
