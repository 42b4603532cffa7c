// Validation loss, and where the sites look while the model trains: mean routing mass per source family.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "kernels/collectives/world.h"
#include "train/batches.h"
#include "train/model/depth_plan.h"
#include "train/step.h"

namespace depthroute {

/// Sum over tokens of the weight each family has at a site, indexed by Family. weights [tokens, n],
/// row-major.
std::array<double, kNumFamilies> family_mass(const Site& site, std::span<const float> weights);

/// The first `sequences` windows of `data` (fewer if it has fewer), in order. Members: val_loss (nats per
/// token), val_tokens and, unless the model is plain, routing_mass: per family the mean over tokens and
/// routed sites of the family's weight (0 at a site without a member, so the four sum to 1), then the same
/// for attn and for mlp sites alone. Collective: micro-batches are dealt to the ranks and
/// summed in their order, whichever rank had them. Only rank 0 gets the members.
nlohmann::ordered_json validate(World& world, TrainingStep& step, const Batches& data, int64_t sequences);

}  // namespace depthroute
