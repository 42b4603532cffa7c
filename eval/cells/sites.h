// Which sites of a plan a grid or a cell of the configuration means.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "configs/terms.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// Layers, by bands and by number, which add up; every layer if neither is given. The final site is in none.
struct LayerChoice {
  std::vector<Band> bands;
  std::vector<int64_t> layers;

  bool all() const { return bands.empty() && layers.empty(); }
  bool contains(const DepthPlan& plan, int site) const;
  /// "early+mid", "layers 3,5", both joined with '+', or "all".
  std::string text() const;
  /// Throws ConfigError "<where>: layer 9 is out of range ..." unless the plan has them all.
  void check(const DepthPlan& plan, const std::string& where) const;
};

/// Returns the sites of these sublayers in these layers, in order. Naming `final` is enough for the final
/// site: it is in no layer. ConfigError naming `where` if the plan has none.
std::vector<int> choose_sites(const DepthPlan& plan, std::span<const Sublayer> sublayers,
                              const LayerChoice& layers, const std::string& where);

/// "attn+mlp".
std::string join_names(std::span<const Sublayer> sublayers);
std::string join_names(std::span<const Family> families);

}  // namespace depthroute
