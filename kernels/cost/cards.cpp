#include "kernels/cost/cards.h"

#include <algorithm>

#include "configs/base/error.h"

namespace depthroute::cost {

namespace {

// H100: 700 of 989 TFLOP/s in products and 3.0 of 3.35 TB/s in copies are what well-fed kernels are usually
// reported to reach; 470 and 360 TFLOP/s are cuDNN 9's causal attention at head_dim 128. H200 has the same
// processor; its memory is taken in the same proportion, 4.3 of 4.8 TB/s. A100: 250 of 312 TFLOP/s, 1.83 of
// 2.04 TB/s, attention in proportion to products. float32 products: three quarters of 67 and 19.5 TFLOP/s.
// kernel_share: 0.82 to 0.92 is usual for kernels over several arrays. instructions: multiprocessors (132;
// 108), each 4 per clock (1.755 GHz; 1.41 GHz), at 0.7 of that.
constexpr int64_t kGiB = int64_t{1} << 30;
const Card kH100 = {.name = "h100",
                    .description = "H100 SXM 80 GB",
                    .peak = 989e12,
                    .product_bf16 = 700e12,
                    .product_f32 = 50e12,
                    .attention = {470e12, 360e12},
                    .bandwidth = 3.0e12,
                    .kernel_share = 0.9,
                    .instructions = 0.7 * 132 * 4 * 1.755e9,
                    .launch_gap = 1.1e-6,
                    .memory = 80 * kGiB};

Card h200() {
  Card card = kH100;
  card.name = "h200";
  card.description = "H200 SXM 141 GB";
  card.bandwidth = 4.3e12;
  card.memory = int64_t{141'000'000'000};
  return card;
}

Card a100() {
  Card card = kH100;
  card.name = "a100";
  card.description = "A100 SXM 80 GB";
  card.peak = 312e12;
  card.product_bf16 = 250e12;
  card.product_f32 = 14.6e12;
  for (double& rate : card.attention) rate *= card.product_bf16 / kH100.product_bf16;
  card.bandwidth = 1.83e12;
  card.instructions = 0.7 * 108 * 4 * 1.41e9;
  return card;
}

}  // namespace

const std::vector<Card>& cards() {
  static const std::vector<Card> all = {kH100, h200(), a100()};
  return all;
}

const Card& find_card(const std::string& name) {
  for (const Card& card : cards())
    if (name == card.name) return card;
  std::string known;
  for (const Card& card : cards()) known += (known.empty() ? "" : ", ") + std::string(card.name);
  throw ConfigError("--card: '{}' is not known; one of {}", name, known);
}

double seconds(const KernelCost& cost, const Card& card) {
  const auto bytes = static_cast<double>(cost.bytes());
  // A product's operands are few and large.
  double time = bytes / (card.bandwidth * (cost.flops > 0 ? 1.0 : card.kernel_share));
  const auto take = [&](double rate) { time = std::max(time, cost.flops / rate); };
  switch (cost.rate) {
    case Rate::none:
      break;
    case Rate::product_bf16:
      take(card.product_bf16);
      break;
    case Rate::product_f32:
      take(card.product_f32);
      break;
    case Rate::attention_forward:
      take(card.attention[0]);
      break;
    case Rate::attention_backward:
      take(card.attention[1]);
      break;
  }
  time = std::max(time, cost.instructions / card.instructions);
  return time + static_cast<double>(cost.launches) * card.launch_gap;
}

double seconds(const Log& log, const Card& card) {
  struct {
    double first = 0, second = 0, bytes = 0;
  } shared;
  double total = 0;
  const auto finish = [&] {
    total += std::max({shared.first, shared.second, shared.bytes / (card.bandwidth * card.kernel_share)});
    shared = {};
  };
  for (const KernelCost& cost : log) {
    if (cost.waits) finish();
    const double time = seconds(cost, card);
    if (!cost.beside && shared.second == 0) {
      total += time;
      continue;
    }
    (cost.beside ? shared.second : shared.first) += time;
    shared.bytes += static_cast<double>(cost.bytes());
  }
  finish();
  return total;
}

CostSum& CostSum::operator+=(const CostSum& other) {
  launches += other.launches;
  flops += other.flops;
  bytes += other.bytes;
  seconds += other.seconds;
  return *this;
}

std::vector<CostSum> sums_by_name(const Log& log, const Card* card) {
  std::vector<CostSum> rows;
  for (const KernelCost& cost : log) {
    auto row = std::find_if(rows.begin(), rows.end(), [&](const CostSum& r) { return r.name == cost.name; });
    if (row == rows.end()) row = rows.insert(row, CostSum{.name = cost.name});
    *row += {cost.name, cost.launches, cost.flops, cost.bytes(), card ? seconds(cost, *card) : 0.0};
  }
  return rows;
}

CostSum total(const std::vector<CostSum>& rows, std::string_view name) {
  CostSum sum{.name = name};
  for (const CostSum& row : rows) sum += row;
  return sum;
}

}  // namespace depthroute::cost
