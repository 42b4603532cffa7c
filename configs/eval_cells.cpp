// Which keys of an entry of `grids` or `cells` go together, and what the entries need of the other keys.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "configs/schema.h"

namespace depthroute {
namespace {

constexpr int64_t kLongestSequence = 1'000'000'000;

/// Needs and refuses keys of one entry.
class EntryCheck {
 public:
  EntryCheck(const std::string& path, const Given& given) : path_(path), given_(given) {}

  bool has(const std::string& key) const { return given_.has(name(key)); }
  void need(const std::string& key, const std::string& whom) const {
    if (!has(key)) fail(key, fmt::format("{} is required for {}", name(key), whom));
  }
  void refuse(const std::string& key, const std::string& why) const {
    if (has(key)) fail(key, fmt::format("{} does not go here: {}", name(key), why));
  }
  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    given_.fail({name(key)}, message);
  }
  std::string name(const std::string& key) const { return path_ + "." + key; }

 private:
  const std::string& path_;
  const Given& given_;
};

using Kind = bool (*)(Intervention);

/// "'uniform', 'schedule' and 'hold'": the interventions of a kind, for messages.
std::string names_of(Kind is_of_kind) {
  std::vector<std::string> quoted;
  for (const Intervention intervention : values<Intervention>())
    if (is_of_kind(intervention)) quoted.push_back(fmt::format("'{}'", to_string(intervention)));
  const std::string last = quoted.back();
  quoted.pop_back();
  return fmt::format("{} and {}", fmt::join(quoted, ", "), last);
}

bool any(const std::vector<Intervention>& interventions, Kind is_of_kind) {
  return std::any_of(interventions.begin(), interventions.end(), is_of_kind);
}

std::string set_all_weights() { return names_of(acts_on_all_sources) + " set all weights of a site"; }

bool is_permute(Intervention intervention) { return intervention == Intervention::permute; }
bool is_resample(Intervention intervention) { return intervention == Intervention::resample; }

bool has_layers(const std::vector<Sublayer>& sublayers) {
  return std::any_of(sublayers.begin(), sublayers.end(),
                     [](Sublayer sublayer) { return sublayer != Sublayer::final; });
}

/// A site has one source of every other family.
bool has_older(const std::vector<Family>& families) {
  return std::find(families.begin(), families.end(), Family::older) != families.end();
}

/// Options that depend on the interventions alone.
template <typename Entry>
void check_options(const Entry& entry, const std::vector<Intervention>& interventions,
                   const EntryCheck& check) {
  if (any(interventions, takes_value))
    check.need("value", "interventions " + names_of(takes_value));
  else
    check.refuse("value", fmt::format("only {} take a value", names_of(takes_value)));
  if (entry.distinct && any(interventions, acts_on_all_sources))
    check.refuse("distinct", set_all_weights() + ", copies included");
  if (!any(interventions, replaces_content))
    check.refuse("replace", fmt::format("only {} replace contents", names_of(replaces_content)));
  if (!any(interventions, needs_calibration))
    check.refuse("average", fmt::format("only {} use means", names_of(needs_calibration)));
}

[[noreturn]] void fail_permute(const EntryCheck& check, const std::string& key) {
  check.fail(key, fmt::format("{}: 'permute' needs at least two sources of a site", check.name(key)));
}

void check_grid(const GridConfig& grid, const EntryCheck& check) {
  const auto& interventions = grid.interventions;
  const bool whole_site = any(interventions, acts_on_all_sources);
  if (whole_site && !std::all_of(interventions.begin(), interventions.end(), acts_on_all_sources))
    check.fail("interventions",
               fmt::format("{}: {} have no sources; give them a grid of their own, without families",
                           check.name("interventions"), names_of(acts_on_all_sources)));
  const bool edges = grid.edges == EdgeChoice::all;
  if (whole_site) {
    check.refuse("families", set_all_weights() + " and have no sources");
    if (edges) check.refuse("edges", set_all_weights() + " and have no sources");
  }
  const bool at_layers = has_layers(grid.sublayers);
  if (edges) {
    check.refuse("families", "edges: all stands for every source");
    if (any(interventions, is_permute)) fail_permute(check, "edges");
  } else {
    if (!whole_site) check.need("families", "a grid of interventions with sources (or edges: all)");
    check.need("sublayers", "a grid");
    if (at_layers && !check.has("layers")) check.need("bands", "sublayers 'attn' and 'mlp' (or layers)");
    if (any(interventions, is_permute) && !has_older(grid.families)) fail_permute(check, "families");
  }
  if (!at_layers && !grid.sublayers.empty()) {
    check.refuse("bands", "the final site is in no band");
    check.refuse("layers", "the final site is in no layer");
  }
  check_options(grid, interventions, check);
}

/// What is refused beside `union`, whose cells say all that.
void check_union(const CellConfig& cell, const EntryCheck& check) {
  const std::string why = "the cells of 'union' say this";
  for (const char* key : {"sources", "sublayers", "bands", "layers", "intervention", "value", "replace",
                          "average", "first_token", "last_token"})
    check.refuse(key, why);
  if (cell.distinct) check.refuse("distinct", why);
  if (cell.tokens != TokenFilter::all) check.refuse("tokens", why);
  if (cell.union_of.size() < 2) check.fail("union", check.name("union") + " must name at least two cells");
  std::set<std::string> names = {cell.name};
  for (const std::string& name : cell.union_of)
    if (!names.insert(name).second)
      check.fail("union", name == cell.name ? fmt::format("{} names the cell itself", check.name("union"))
                                            : fmt::format("{} names {} twice", check.name("union"), name));
}

/// Refuses ranges of positions without a token.
void check_positions(const CellConfig& cell, int64_t seq_len, const EntryCheck& check) {
  const int64_t first = cell.first_token.value_or(0), last = cell.last_token.value_or(seq_len - 1);
  if (first >= seq_len)
    check.fail("first_token", fmt::format("{} = {} is beyond the last position; data.seq_len is {}",
                                          check.name("first_token"), first, seq_len));
  if (first > last)
    check.fail("first_token",
               fmt::format("{} = {} is after last_token = {}", check.name("first_token"), first, last));
  const bool nothing_left = (cell.tokens == TokenFilter::position_0 && first > 0) ||
                            (cell.tokens == TokenFilter::not_position_0 && last == 0);
  if (nothing_left)
    check.fail("tokens", fmt::format("{}: no position from {} to {} is in '{}'", check.name("tokens"), first,
                                     last, to_string(cell.tokens)));
}

void check_cell(const CellConfig& cell, int64_t seq_len, const EntryCheck& check) {
  if (check.has("union")) return check_union(cell, check);
  if (acts_on_all_sources(cell.intervention))
    check.refuse("sources", fmt::format("'{}' sets all weights of a site", to_string(cell.intervention)));
  else
    check.need("sources", fmt::format("intervention '{}'", to_string(cell.intervention)));
  if (is_permute(cell.intervention) && cell.source_positions.size() + cell.source_families.size() < 2 &&
      !has_older(cell.source_families))
    fail_permute(check, "sources");
  if (!has_layers(cell.sublayers)) {
    check.refuse("bands", "the final site is in no band");
    check.refuse("layers", "the final site is in no layer");
  }
  check_options(cell, {cell.intervention}, check);
  check_positions(cell, seq_len, check);
}

/// What interventions need of the other keys. `key` holds them.
void check_needs(const EvalConfig& config, const std::vector<Intervention>& interventions,
                 const std::string& key, const EntryCheck& check) {
  if (any(interventions, needs_calibration)) {
    const bool measured = config.data.split == Split::all || config.data.split == Split::calibration;
    const std::string why = fmt::format("{}: {} use means over the calibration split, ", check.name(key),
                                        names_of(needs_calibration));
    if (measured)
      check.fail(key, why + fmt::format("which data.split: {} would measure as well; set data.split: "
                                        "exploration",
                                        to_string(config.data.split)));
    if (config.splits.calibration == 0)
      check.fail(key, why + "which splits.calibration = 0 leaves empty; give it a share");
  }
  // How many requests a file holds is not known yet; the batches are checked once it is.
  const bool of_task = !config.data.requests.empty();
  const int64_t donors = config.resample.donors;
  const int64_t batch = of_task ? config.micro_batch : std::min(config.micro_batch, config.data.sequences);
  if (any(interventions, is_resample) && batch <= donors)
    check.fail(key, fmt::format("{}: 'resample' takes {} donors from the other sequences of a batch, which "
                                "holds {}; raise micro_batch and data.sequences to at least {}, or lower "
                                "resample.donors",
                                check.name(key), donors, batch, donors + 1));
}

}  // namespace

void check_entries(const EvalConfig& config, const Given& given) {
  for (size_t i = 0; i < config.grids.size(); ++i) {
    const std::string path = fmt::format("grids[{}]", i);
    const EntryCheck check(path, given);
    check_grid(config.grids[i], check);
    check_needs(config, config.grids[i].interventions, "interventions", check);
  }
  for (size_t i = 0; i < config.cells.size(); ++i) {
    const std::string path = fmt::format("cells[{}]", i);
    const EntryCheck check(path, given);
    check_cell(config.cells[i], config.data.requests.empty() ? config.data.seq_len : kLongestSequence, check);
    if (config.cells[i].union_of.empty())
      check_needs(config, {config.cells[i].intervention}, "intervention", check);
  }
  std::set<std::string> names;
  for (size_t i = 0; i < config.claims.size(); ++i) {
    const ClaimConfig& claim = config.claims[i];
    const std::string path = fmt::format("claims[{}]", i);
    const EntryCheck check(path, given);
    if (!names.insert(claim.name).second)
      check.fail("name", fmt::format("{}: another claim has the name {}", check.name("name"), claim.name));
    if (claim.exceeds == claim.cell)
      check.fail("exceeds", fmt::format("{} is the claim's own cell", check.name("exceeds")));
  }
}

}  // namespace depthroute
