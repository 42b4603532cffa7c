#include "eval/cells/interventions.h"

#include <algorithm>
#include <limits>
#include <set>

namespace depthroute {
namespace {

std::vector<bool> choose(const Site& site, const SourceChoice& choice, bool distinct) {
  std::vector<bool> named(site.sources.size());
  for (int j = 0; j < site.num_sources(); ++j) named[j] = choice.contains(site, j);
  if (!distinct) return named;
  std::vector<bool> chosen = named;
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k)
      if (named[k] && site.sources[j] == site.sources[k]) chosen[j] = true;
  }
  return chosen;
}

/// The sources an intervention changes: `only` changes those that are not chosen, all others the chosen ones.
std::vector<bool> touched_sources(Intervention intervention, const std::vector<bool>& chosen) {
  std::vector<bool> touched = chosen;
  if (intervention == Intervention::only) touched.flip();
  return touched;
}

std::vector<int> indices(const std::vector<bool>& chosen) {
  std::vector<int> list;
  for (size_t j = 0; j < chosen.size(); ++j)
    if (chosen[j]) list.push_back(static_cast<int>(j));
  return list;
}

void append_edges(int site, const std::vector<bool>& chosen, std::vector<Edge>& edges) {
  for (const int source : indices(chosen)) edges.push_back({site, source});
}

/// Whether there is nothing for the action to change at the site.
bool finds_nothing(const Action& action, const Site& site, const std::vector<bool>& touched) {
  const std::vector<int> sources = indices(touched);
  if (sources.empty()) return true;
  if (action.intervention == Intervention::permute) {
    std::set<int> states;  // copies of one state hold the same
    for (const int source : sources) states.insert(site.sources[source]);
    if (states.size() < 2) return true;
  }
  // A single source has all the weight whatever its key is.
  const bool sets_weights_alone =
      acts_on_all_sources(action.intervention) ||
      (replaces_content(action.intervention) && action.replaced == Replaced::keys);
  return sets_weights_alone && site.num_sources() == 1;
}

/// Whether the action touches every source to no avail: mask, only and zero would leave nothing, and the
/// softmax does not see a common bias.
bool takes_all(const Action& action, const std::vector<bool>& touched) {
  if (acts_on_all_sources(action.intervention) || replaces_content(action.intervention)) return false;
  return std::ranges::all_of(touched, [](bool touch) { return touch; });
}

void apply_to_site(Cell& cell, const Action& action, const DepthPlan& plan, int index,
                   const SourceChoice& choice) {
  const Site& site = plan.sites[index];
  const std::vector<bool> chosen = choose(site, choice, action.distinct);
  const std::vector<bool> touched = touched_sources(action.intervention, chosen);
  if (finds_nothing(action, site, touched)) {
    ++cell.sites_absent;
    cell.absent_sites.push_back(index);
    return;
  }
  if (takes_all(action, touched)) {
    ++cell.sites_skipped;
    append_edges(index, chosen, cell.skipped_sources);
    return;
  }
  ++cell.sites_ablated;
  if (has_untouched_copy(site, touched)) ++cell.sites_duplicate;
  cell.site_changes[index] = site_change(action, site, chosen);
  cell.first_site = std::min(cell.first_site, index);
  append_edges(index, chosen, cell.sources);
}

std::vector<float> marked(const std::vector<bool>& which, float changed, float neutral) {
  std::vector<float> values;
  for (const bool changes : which) values.push_back(changes ? changed : neutral);
  return values;
}

/// Each chosen source gets the content of the next chosen one, the last one that of the first.
std::vector<Substitution> rotate(const Site& site, const std::vector<int>& sources, Replaced what) {
  std::vector<Substitution> substitutions;
  for (size_t i = 0; i < sources.size(); ++i) {
    const int next = sources[(i + 1) % sources.size()], original = site.duplicate_of[next];
    substitutions.push_back({sources[i], what, {ContentKind::source, original < 0 ? next : original}});
  }
  return substitutions;
}

std::vector<Substitution> substitute(const std::vector<int>& sources, Replaced what, ContentKind kind) {
  std::vector<Substitution> substitutions;
  for (const int source : sources) substitutions.push_back({source, what, {kind}});
  return substitutions;
}

const char* text_of(Replaced what) {
  if (what == Replaced::both) return to_string(Replace::both);
  return to_string(what == Replaced::values ? Replace::values : Replace::keys);
}

}  // namespace

bool SourceChoice::contains(const Site& site, int source) const {
  if (families.empty() && positions.empty()) return true;
  return std::find(families.begin(), families.end(), site.family(source)) != families.end() ||
         std::find(positions.begin(), positions.end(), source) != positions.end();
}

bool has_untouched_copy(const Site& site, const std::vector<bool>& touched) {
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k)
      if (touched[j] && !touched[k] && site.sources[j] == site.sources[k]) return true;
  }
  return false;
}

SiteChange site_change(const Action& action, const Site& site, const std::vector<bool>& chosen) {
  const std::vector<bool> touched = touched_sources(action.intervention, chosen);
  const bool per_position = action.average == Average::position;
  SiteChange change;
  change.tokens = action.tokens;
  switch (action.intervention) {
    case Intervention::mask:
    case Intervention::only:
      change.offset = marked(touched, -std::numeric_limits<float>::infinity(), 0);
      break;
    case Intervention::bias:
      change.offset = marked(touched, static_cast<float>(action.value), 0);
      break;
    case Intervention::zero:
      change.scale = marked(touched, 0, 1);
      break;
    case Intervention::uniform:
    case Intervention::schedule:
      change.learned_logits = false;
      change.offset.assign(chosen.size(), 0.0f);
      if (action.intervention == Intervention::schedule)
        change.offset.back() = static_cast<float>(action.value);
      break;
    case Intervention::freeze:
      change.weights = per_position ? WeightSource::calibration_per_position : WeightSource::calibration;
      break;
    case Intervention::hold:
      change.weights = WeightSource::clean;
      break;
    case Intervention::mean:
      change.substitutions = substitute(indices(chosen), action.replaced,
                                        per_position ? ContentKind::mean_per_position : ContentKind::mean);
      break;
    case Intervention::resample:
      change.substitutions = substitute(indices(chosen), action.replaced, ContentKind::donor);
      break;
    case Intervention::permute:
      change.substitutions = rotate(site, indices(chosen), action.replaced);
      break;
  }
  return change;
}

void apply_to_sites(Cell& cell, const Action& action, const DepthPlan& plan, const std::vector<int>& sites,
                    const SourceChoice& choice) {
  cell.intervention = action.intervention;
  cell.value = action.value;
  cell.distinct = action.distinct;
  if (replaces_content(action.intervention)) cell.replace = text_of(action.replaced);
  if (needs_calibration(action.intervention)) cell.average = to_string(action.average);
  cell.tokens = action.tokens.text();
  cell.site_changes.assign(plan.sites.size(), SiteChange{});
  cell.first_site = static_cast<int>(plan.sites.size());
  for (const int site : sites) apply_to_site(cell, action, plan, site, choice);
}

}  // namespace depthroute
