// The depth plan (SPEC §1): for every sublayer, which states its site reads and whether the state restarts
// there. Computed once from the configuration; forward, backward, memory planning, traces, source families,
// ablations and the wrapper read this table, and nothing else knows the variants apart.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "configs/model_config.h"
#include "configs/terms.h"

namespace depthroute {

struct Site {
  int layer = 0;  // num_layers for the final site
  Sublayer sublayer = Sublayer::attn;
  std::vector<int> sources;       // state indices 0 ... 2L in source order; the last is the current state
  std::vector<int> duplicate_of;  // per source: the first earlier source that is the same state, or -1
  bool routed = true;             // has query, key norm and bias (false only for plain Qwen3)
  bool restart = false;  // the sublayer's output starts a new state instead of being added (never: final)

  int num_sources() const { return static_cast<int>(sources.size()); }
  /// SPEC §1, by position, first rule that fits: last current, first embedding, last but one recent, rest
  /// older.
  Family family(int source) const;
};

struct DepthPlan {
  int num_layers = 0;
  int sublayers_per_block = 0;
  std::vector<Site> sites;  // 2L sublayers in order, then the final site if there is one
  /// Per state 0 ... 2L: read by a site other than as its current state, so its gradient gathers
  /// contributions.
  std::vector<bool> kept;
  /// Per state: which gradient buffer it uses in the backward pass. S_s shares the slot of S_{s+1} = S_s +
  /// f_s when nothing else reads S_s.
  std::vector<int> gradient_slot;
  int num_gradient_slots = 0;

  int num_sublayers() const { return 2 * num_layers; }
  bool has_final_site() const { return static_cast<int>(sites.size()) > num_sublayers(); }
  int max_sources() const;
  Band band(int site) const;  // floor(3 i / L) of layer i
  /// "layers.3.attn", "final": for messages and tables.
  std::string site_name(int site) const;
};

/// Sites that follow one another and share all their sources but the last: what the backward pass has to do
/// for the shared ones is done once for all of them (ops::routing_backward_shared).
struct SiteGroup {
  int first = 0, count = 1;
  int end() const { return first + count; }
};
/// More sites would need more memory for what each keeps until the group is done, and save little traffic.
inline constexpr int kMaxGroupSites = 8;
/// All sites in order, in the fewest groups of at most kMaxGroupSites, long runs cut evenly. A site with one
/// source shares nothing and is its own group.
std::vector<SiteGroup> group_sites(std::span<const Site> sites);

/// The configuration must have passed ModelConfig::problem().
DepthPlan make_depth_plan(const ModelConfig& config);

/// Weight of the current source, and of each of the other n-1, under a recency schedule with bias b (SPEC
/// §1).
struct ScheduleWeights {
  double current, other;
};
ScheduleWeights schedule_weights(int num_sources, double bias);

}  // namespace depthroute
