// The one list of what is measured: a column per quantity, with its units, axes and how the values of batches
// become those of the evaluation. Records, unit files, the evaluation and the results file iterate over these
// tables, so that a new quantity is an entry here and the code in Evaluator that computes it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/model/depth_plan.h"

namespace depthroute {

/// Axes of a column; a column of a cell has the cell before them.
enum class Axis : uint8_t { segment, sequence, token, site, source, donor };
const char* to_string(Axis axis);

/// How batches are put together, in their order.
enum class Merge : uint8_t {
  append,   // along the first axis
  add,      // element by element
  largest,  // element by element; NaN if any is
  moments,  // of the weights of a (site, source): RoutingTrace combines them
};

struct Column {
  const char *name, *units, *long_name;
  std::array<Axis, 3> axes;
  int rank;
  Merge merge;
  /// The quantity per token that statistics make of sums over segments; nullptr: none.
  const char *rate = nullptr, *rate_units = nullptr, *rate_long_name = nullptr;

  std::span<const Axis> shape() const { return {axes.data(), static_cast<size_t>(rank)}; }
  bool has(Axis axis) const;
};

/// What is measured of the clean run, per batch.
enum class CleanColumn : uint8_t {
  nll,
  hit,
  entropy,
  weight_mean,
  weight_sum_squares,
  weight_lowest,
  weight_highest,
  weight,
  norm_share,
  projection_share,
  cosine,
  edge_estimate,
};
inline constexpr Column kCleanColumns[] = {
    {"nll",
     "nats/token",
     "negative log-likelihood of the next token, clean run; NaN where none counts",
     {Axis::sequence, Axis::token},
     2,
     Merge::append},
    {"hit",
     "1",
     "1 where the most likely next token is the one that follows, clean run; NaN where none counts",
     {Axis::sequence, Axis::token},
     2,
     Merge::append},
    {"entropy",
     "nats",
     "sum over tokens of the entropy of the weights, clean run",
     {Axis::site},
     1,
     Merge::add},
    {"weight_mean",
     "1",
     "mean weight over the batch's tokens, clean run",
     {Axis::site, Axis::source},
     2,
     Merge::moments},
    {"weight_sum_squares",
     "1",
     "sum of squared deviations of the weight from its mean",
     {Axis::site, Axis::source},
     2,
     Merge::moments},
    {"weight_lowest", "1", "smallest weight of any token", {Axis::site, Axis::source}, 2, Merge::moments},
    {"weight_highest", "1", "largest weight of any token", {Axis::site, Axis::source}, 2, Merge::moments},
    {"weight",
     "1",
     "sum over the segment's tokens of the weight, clean run",
     {Axis::segment, Axis::site, Axis::source},
     3,
     Merge::append},
    {"norm_share",
     "1",
     "sum over the segment's tokens of |a_j V_j| / sum_i |a_i V_i|, clean run",
     {Axis::segment, Axis::site, Axis::source},
     3,
     Merge::append},
    {"projection_share",
     "1",
     "sum over the segment's tokens of <a_j V_j, h> / |h|^2, clean run",
     {Axis::segment, Axis::site, Axis::source},
     3,
     Merge::append},
    {"cosine",
     "1",
     "sum over the segment's tokens of the cosine of a source and the current state",
     {Axis::segment, Axis::site, Axis::source},
     3,
     Merge::append},
    {"edge_estimate",
     "nats",
     "sum over the segment's tokens of the first-order estimate of masking the source",
     {Axis::segment, Axis::site, Axis::source},
     3,
     Merge::append},
};

/// What a cell changes against the clean run: same tokens, kernels and batch. Means over donors where a cell
/// is measured with several.
enum class CellColumn : uint8_t {
  delta_nll,
  abs_delta_nll,
  kl,
  flips,
  hit_change,
  largest_change,
  weight,
  donor_delta_nll,
  segment_donor_delta_nll,
  segment_donor_hit_change,
  token_delta_nll,
};
inline constexpr Column kCellColumns[] = {
    {"delta_nll",
     "nats",
     "sum over the segment's tokens of the change of nll",
     {Axis::segment},
     1,
     Merge::append,
     "delta_nll",
     "nats/token",
     "change of negative log-likelihood, ablated minus clean"},
    {"abs_delta_nll",
     "nats",
     "sum over the segment's tokens of the absolute change of nll",
     {Axis::segment},
     1,
     Merge::append,
     "abs_delta_nll",
     "nats/token",
     "absolute change of negative log-likelihood of a token"},
    {"kl",
     "nats",
     "sum over the segment's tokens of the divergence",
     {Axis::segment},
     1,
     Merge::append,
     "kl",
     "nats/token",
     "Kullback-Leibler divergence of the ablated from the clean prediction"},
    {"flips",
     "1",
     "tokens of the segment whose most likely next token changed",
     {Axis::segment},
     1,
     Merge::append,
     "flip_rate",
     "1",
     "share of tokens whose most likely next token changed"},
    {"hit_change",
     "1",
     "tokens of the segment predicted right minus those the clean run predicted right",
     {Axis::segment},
     1,
     Merge::append,
     "hit_change",
     "1",
     "change of the share of tokens whose most likely next token is the one that follows"},
    {"largest_change", "nats", "largest |delta nll| or divergence of any token", {}, 0, Merge::largest},
    {"weight",
     "1",
     "sum over tokens of the weight, under the cell",
     {Axis::site, Axis::source},
     2,
     Merge::add},
    {"donor_delta_nll",
     "nats",
     "sum over tokens of the change of nll, for each donor",
     {Axis::donor},
     1,
     Merge::add},
    {"segment_donor_delta_nll",
     "nats",
     "sum over the segment's tokens of the change of nll, for each donor; on tasks",
     {Axis::segment, Axis::donor},
     2,
     Merge::append},
    {"segment_donor_hit_change",
     "1",
     "tokens of the segment predicted right minus those the clean run predicted right, for each donor; on tasks",
     {Axis::segment, Axis::donor},
     2,
     Merge::append},
    {"token_delta_nll",
     "nats/token",
     "change of nll of every token; NaN where none counts",
     {Axis::sequence, Axis::token},
     2,
     Merge::append},
};

/// The table of an enum of columns.
template <typename Which>
constexpr std::span<const Column> columns();
template <>
constexpr std::span<const Column> columns<CleanColumn>() {
  return kCleanColumns;
}
template <>
constexpr std::span<const Column> columns<CellColumn>() {
  return kCellColumns;
}
template <typename Which>
constexpr const Column& column_of(Which which) {
  return columns<Which>()[static_cast<size_t>(which)];
}

/// Lengths of the axes, of a batch or of all of them.
struct Lengths {
  int64_t segments = 0, sequences = 0, tokens = 0, sites = 0, sources = 0, donors = 0;
  int64_t of(Axis axis) const;
  int64_t size(const Column& column) const;  // values of a column
};

/// The values of a set of columns, row-major; empty: not measured. Where a site has fewer sources: NaN.
template <typename Which>
struct Columns {
  std::vector<std::vector<double>> values{columns<Which>().size()};
  std::vector<double>& operator[](Which which) { return values[static_cast<size_t>(which)]; }
  const std::vector<double>& operator[](Which which) const { return values[static_cast<size_t>(which)]; }
  bool operator==(const Columns&) const = default;

  /// Adds the next batch; nothing is known of columns combined by Merge::moments afterwards.
  void add(const Columns& next) {
    for (size_t i = 0; i < values.size(); ++i)
      merge_column(columns<Which>()[i].merge, values[i], next.values[i]);
  }
};
void merge_column(Merge merge, std::vector<double>& all, const std::vector<double>& next);

using Outcome = Columns<CellColumn>;
using CleanValues = Columns<CleanColumn>;

/// max(), but NaN if either is.
double largest_of(double a, double b);

}  // namespace depthroute
