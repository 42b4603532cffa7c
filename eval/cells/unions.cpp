#include "eval/cells/unions.h"

#include <algorithm>
#include <set>

#include "configs/base/error.h"
#include "eval/cells/interventions.h"

namespace depthroute {
namespace {

using Members = std::span<const Cell* const>;

/// The change that all members make at a site together.
SiteChange united_change(const Cell& cell, Members members, const DepthPlan& plan, int site) {
  const int n = plan.sites[site].num_sources();
  SiteChange change;
  for (size_t i = 0; i < members.size(); ++i) {
    const SiteChange& added = members[i]->site_changes[site];
    for (size_t k = 0; k < i; ++k)
      if (const std::string problem = conflict(members[k]->site_changes[site], added, n); !problem.empty())
        throw ConfigError("cell '{}': its members '{}' and '{}' cannot be combined: at {} they {}", cell.name,
                          members[k]->name, members[i]->name, plan.site_name(site), problem);
    combine(change, added, n);
  }
  return change;
}

/// The edges that members list at a site, each once.
std::set<Edge> edges_at(Members members, std::vector<Edge> Cell::*list, int site) {
  std::set<Edge> edges;
  for (const Cell* member : members)
    for (const Edge& edge : member->*list)
      if (edge.site == site) edges.insert(edge);
  return edges;
}

bool chosen_in_vain(Members members, int site) {
  return std::ranges::any_of(members, [&](const Cell* member) {
    return std::ranges::find(member->absent_sites, site) != member->absent_sites.end();
  });
}

void unite_site(Cell& cell, Members members, const DepthPlan& plan, int index) {
  const Site& site = plan.sites[index];
  const SiteChange change = united_change(cell, members, plan, index);
  std::set<Edge> sources = edges_at(members, &Cell::sources, index);
  if (change.leaves_nothing() || (sources.empty() && !change.changes())) {
    sources.merge(edges_at(members, &Cell::skipped_sources, index));
    if (!sources.empty()) {
      ++cell.sites_skipped;
      cell.skipped_sources.insert(cell.skipped_sources.end(), sources.begin(), sources.end());
    } else if (chosen_in_vain(members, index)) {
      ++cell.sites_absent;
      cell.absent_sites.push_back(index);
    }
    return;
  }
  ++cell.sites_ablated;
  if (has_untouched_copy(site, change.touched(site.num_sources()))) ++cell.sites_duplicate;
  cell.site_changes[index] = change;
  cell.first_site = std::min(cell.first_site, index);
  cell.sources.insert(cell.sources.end(), sources.begin(), sources.end());
}

}  // namespace

void unite(Cell& cell, std::span<const Cell* const> members, const DepthPlan& plan) {
  cell.intervention.reset();
  cell.tokens = members.front()->tokens;
  for (const Cell* member : members) {
    cell.union_of += (cell.union_of.empty() ? "" : " + ") + member->name;
    if (member->tokens != cell.tokens) cell.tokens.clear();
  }
  cell.site_changes.assign(plan.sites.size(), SiteChange{});
  cell.first_site = static_cast<int>(plan.sites.size());
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site)
    unite_site(cell, members, plan, site);
}

}  // namespace depthroute
