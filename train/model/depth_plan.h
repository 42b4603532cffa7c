// The depth plan (train/model/SPEC.md §1): for every sublayer, which states its site reads and whether the
// state restarts there. Computed once from the configuration. Forward, backward, memory planning, traces,
// source families, ablations and the wrapper read this table; nothing else distinguishes the variants.
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
  bool routed = true;             // has query, key norm and bias (false only for plain models)
  bool restart = false;  // the sublayer's output starts a new state instead of being added (never: final)

  int num_sources() const { return static_cast<int>(sources.size()); }
  /// The family of a source, by position (eval/SPEC.md §1). The first rule that fits: last current, first
  /// embedding, last but one recent, all others older.
  Family family(int source) const;
};

struct DepthPlan {
  int num_layers = 0;
  int sublayers_per_block = 0;
  std::vector<Site> sites;  // 2L sublayers in order, then the final site if there is one
  /// Per state 0 ... 2L: whether a site reads it other than as its current state, so that its gradient has
  /// several contributions.
  std::vector<bool> kept;
  /// Per state: which gradient buffer it uses in the backward pass. S_s shares the slot of S_{s+1} = S_s +
  /// f_s if nothing else reads S_s.
  std::vector<int> gradient_slot;
  int num_gradient_slots = 0;

  int num_sublayers() const { return 2 * num_layers; }
  bool has_final_site() const { return static_cast<int>(sites.size()) > num_sublayers(); }
  int max_sources() const;
  Band band(int site) const;  // floor(3 i / L) of layer i
  /// "layers.3.attn", "final": for messages and tables.
  std::string site_name(int site) const;
};

/// Consecutive sites that share all their sources but the last: the backward pass handles the shared ones
/// once for the whole group (ops::routing_backward_shared).
struct SiteGroup {
  int first = 0, count = 1;
  int end() const { return first + count; }
};
/// Larger groups would need more memory for what each site keeps until the group is done, and save little
/// traffic.
inline constexpr int kMaxGroupSites = 8;
/// Divides all sites, in order, into the fewest groups of at most kMaxGroupSites, cutting long ones evenly. A
/// site with one source shares nothing and is its own group; with `alone`, so is a site whose current state is
/// also one of its finished ones. (The group behind it then has until this site's own gradient to finish.)
std::vector<SiteGroup> group_sites(std::span<const Site> sites, bool alone = false);

/// The configuration must have passed ModelConfig::problem().
DepthPlan make_depth_plan(const ModelConfig& config);

/// Weight of the current source, and of each of the other n-1, under a recency schedule with bias b
/// (train/model/SPEC.md §1).
struct ScheduleWeights {
  double current, other;
};
ScheduleWeights schedule_weights(int num_sources, double bias);

}  // namespace depthroute
