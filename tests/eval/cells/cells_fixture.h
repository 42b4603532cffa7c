// Depth plans without a model, and entries of `grids` and `cells` for them.
#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "eval/cells/grid.h"

namespace depthroute {

inline constexpr float kDropped = -std::numeric_limits<float>::infinity();

inline DepthPlan plan_of(Variant variant, int64_t layers = 6, int64_t block = 4) {
  ModelConfig config;
  config.num_layers = layers;
  config.residual.variant = variant;
  config.residual.sublayers_per_block = block;
  return make_depth_plan(config);
}

inline GridConfig grid(std::vector<Intervention> interventions) {
  GridConfig config;
  config.families = values<Family>();
  config.sublayers = {Sublayer::attn, Sublayer::mlp};
  config.bands = values<Band>();
  config.interventions = std::move(interventions);
  return config;
}

inline CellConfig single(Intervention intervention, std::vector<int64_t> positions,
                         std::vector<int64_t> layers, std::vector<Sublayer> sublayers) {
  CellConfig config;
  config.name = "cell";
  config.intervention = intervention;
  config.source_positions = std::move(positions);
  config.layers = std::move(layers);
  config.sublayers = std::move(sublayers);
  return config;
}

inline Cell resolve_one(const CellConfig& config, const DepthPlan& plan) {
  return resolve_cells({}, {config}, plan).at(0);
}

}  // namespace depthroute
