// The GPUs that work can be predicted for, and the time a kernel takes on one.
#pragma once

#include <string>
#include <vector>

#include "kernels/cost/kernel_cost.h"

namespace depthroute::cost {

/// Rates are per second. Attainable ones are assumptions until measured (cards.cpp says whose), not data
/// sheets.
struct Card {
  const char* name;
  const char* description;
  double peak;          // FLOP: dense bf16, data sheet; what utilisation is a share of
  double product_bf16;  // FLOP of large products, attainable
  double product_f32;   // likewise, without TF32
  double attention[2];  // FLOP of causal attention, forward and backward, attainable
  double bandwidth;     // bytes of DRAM, attainable by a copy
  double kernel_share;  // of it, what kernels attain that read several arrays
  double instructions;  // of warps, attainable
  double launch_gap;    // s from the end of a kernel to the start of the next
  int64_t memory;       // bytes
};

/// h100, h200, a100.
const std::vector<Card>& cards();
/// Throws ConfigError that lists the cards.
const Card& find_card(const std::string& name);

/// The longest of what memory, arithmetic and instructions need, and a gap per launch.
double seconds(const KernelCost& cost, const Card& card);

/// Of all kernels, one after another. Where a second stream has some, both streams' kernels until the first waits for
/// the second take as long as the longer of the two, or as all their bytes at what kernels over several arrays attain.
double seconds(const Log& log, const Card& card);

/// Kernels of one name together.
struct CostSum {
  std::string_view name;
  int64_t launches = 0;
  double flops = 0;
  int64_t bytes = 0;
  double seconds = 0;  // 0 without a card

  CostSum& operator+=(const CostSum& other);
};
/// In the order of first appearance. `card` may be null.
std::vector<CostSum> sums_by_name(const Log& log, const Card* card);
/// Of all rows. Its name is `name`.
CostSum total(const std::vector<CostSum>& rows, std::string_view name);

}  // namespace depthroute::cost
