#include "eval/analysis/coefficients.h"

#include <limits>

namespace depthroute {

std::vector<std::vector<int>> outputs_of_states(const DepthPlan& plan) {
  std::vector<std::vector<int>> outputs = {{0}};
  for (int s = 0; s < plan.num_sublayers(); ++s) {
    std::vector<int> next = plan.sites[s].restart ? std::vector<int>{} : outputs.back();
    next.push_back(s + 1);
    outputs.push_back(std::move(next));
  }
  return outputs;
}

std::vector<std::string> output_names(const DepthPlan& plan) {
  std::vector<std::string> names = {"embedding"};
  for (int s = 0; s < plan.num_sublayers(); ++s) names.push_back(plan.site_name(s));
  return names;
}

std::vector<double> coefficients(const Site& site, const std::vector<std::vector<int>>& outputs_of_states,
                                 std::span<const double> weights, const SiteChange* change) {
  std::vector<double> result(outputs_of_states.size(), 0.0);
  const bool mixed = change && (!change->scale.empty() || !change->substitutions.empty());
  if (mixed && !change->tokens.all()) {
    result.assign(result.size(), std::numeric_limits<double>::quiet_NaN());
    return result;
  }
  std::vector<int> read(site.sources);  // the state whose outputs a source brings; -1: none
  if (change)
    for (const Substitution& substitution : change->substitutions)
      if (substitution.what != Replaced::keys)
        read[substitution.source] =
            substitution.content.kind == ContentKind::source ? site.sources[substitution.content.source] : -1;
  for (size_t j = 0; j < read.size(); ++j) {
    if (read[j] < 0) continue;
    const double scale = change && !change->scale.empty() ? static_cast<double>(change->scale[j]) : 1.0;
    for (const int output : outputs_of_states[read[j]]) result[output] += scale * weights[j];
  }
  return result;
}

}  // namespace depthroute
