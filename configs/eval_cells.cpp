// Which keys of an entry of `grids` or `cells` go together.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "configs/schema.h"

namespace depthroute {
namespace {

/// Needs and refuses keys of one entry.
class EntryCheck {
 public:
  EntryCheck(const std::string& path, const Given& given) : path_(path), given_(given) {}

  void need(const std::string& key, const std::string& whom) const {
    if (!given_.has(name(key))) fail(key, fmt::format("{} is required for {}", name(key), whom));
  }
  void refuse(const std::string& key, const std::string& why) const {
    if (given_.has(name(key))) fail(key, fmt::format("{} does not go here: {}", name(key), why));
  }
  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    given_.fail({name(key)}, message);
  }
  std::string name(const std::string& key) const { return path_ + "." + key; }

 private:
  const std::string& path_;
  const Given& given_;
};

/// "'uniform' and 'schedule'": the interventions of a kind, for messages.
std::string names_of(bool (*is_of_kind)(Intervention)) {
  std::vector<std::string> quoted;
  for (const Intervention intervention : values<Intervention>())
    if (is_of_kind(intervention)) quoted.push_back(fmt::format("'{}'", to_string(intervention)));
  return fmt::format("{}", fmt::join(quoted, " and "));
}

std::string set_all_weights() { return names_of(acts_on_all_sources) + " set all weights of a site"; }

bool has_layers(const std::vector<Sublayer>& sublayers) {
  return std::any_of(sublayers.begin(), sublayers.end(),
                     [](Sublayer sublayer) { return sublayer != Sublayer::final; });
}

/// `value` and `distinct`, which depend on the interventions alone.
template <typename Entry>
void check_options(const Entry& entry, const std::vector<Intervention>& interventions,
                   const EntryCheck& check) {
  if (std::any_of(interventions.begin(), interventions.end(), takes_value))
    check.need("value", "interventions " + names_of(takes_value));
  else
    check.refuse("value", fmt::format("only {} take a value", names_of(takes_value)));
  if (entry.distinct && std::any_of(interventions.begin(), interventions.end(), acts_on_all_sources))
    check.refuse("distinct", set_all_weights() + ", copies included");
}

}  // namespace

void check_grid(const GridConfig& grid, const std::string& path, const Given& given) {
  const EntryCheck check(path, given);
  const auto& interventions = grid.interventions;
  const bool whole_site = std::any_of(interventions.begin(), interventions.end(), acts_on_all_sources);
  if (whole_site && !std::all_of(interventions.begin(), interventions.end(), acts_on_all_sources))
    check.fail("interventions",
               fmt::format("{}: {} have no sources; give them a grid of their own, without families",
                           check.name("interventions"), names_of(acts_on_all_sources)));
  const bool edges = grid.edges == EdgeChoice::all;
  if (whole_site) {
    check.refuse("families", set_all_weights() + " and have no sources");
    if (edges) check.refuse("edges", set_all_weights() + " and have no sources");
  }
  if (edges) {
    check.refuse("families", "edges: all stands for every source");
    check.refuse("bands", "edges: all stands for every layer");
  } else {
    if (!whole_site) check.need("families", "a grid of interventions with sources (or edges: all)");
    check.need("sublayers", "a grid");
    if (has_layers(grid.sublayers))
      check.need("bands", "sublayers 'attn' and 'mlp'");
    else
      check.refuse("bands", "the final site is in no band");
  }
  check_options(grid, interventions, check);
}

void check_cell(const CellConfig& cell, const std::string& path, const Given& given) {
  const EntryCheck check(path, given);
  if (acts_on_all_sources(cell.intervention))
    check.refuse("sources", fmt::format("'{}' sets all weights of a site", to_string(cell.intervention)));
  else
    check.need("sources", fmt::format("intervention '{}'", to_string(cell.intervention)));
  if (!has_layers(cell.sublayers)) {
    check.refuse("bands", "the final site is in no band");
    check.refuse("layers", "the final site is in no layer");
  }
  check_options(cell, {cell.intervention}, check);
}

}  // namespace depthroute
