// What depthroute-eval can be told. eval_schema.cpp states the key, range and meaning of every field once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/terms.h"

namespace depthroute {

struct WrapConfig {
  std::vector<double> recency_bias = {30.0};  // one value, or one per site
  int64_t num_blocks = 8;                     // used if sublayers_per_block is 0
  int64_t sublayers_per_block = 0;            // 0: from num_blocks
};
struct EvalModelConfig {
  std::string from;                // required: checkpoint, checkpoints/latest, or model folder
  std::optional<WrapConfig> wrap;  // only for a plain model
};
struct EvalDataConfig {
  std::vector<std::string> shards;  // required unless there are requests
  std::string requests;             // a task's, instead of shards, seq_len, sequences, choose and separator
  int64_t seq_len = 2048;
  int64_t sequences = 256;
  Choose choose = Choose::shuffled;
  uint64_t seed = 1;               // of the choice, and of the splits
  std::vector<int64_t> separator;  // tokens that end a document; empty: the shards may say
  Split split = Split::all;
};
/// Shares of the data, which sum to 1.
struct SplitsConfig {
  double calibration = 0.2, exploration = 0.4, confirmation = 0.4;
  int64_t calibration_sequences = 64;  // that means are taken over
};
struct RoutingConfig {
  RoutingWeights weights = RoutingWeights::none;
  bool edge_estimates = false;
};
struct ResampleConfig {
  int64_t donors = 5;
  uint64_t seed = 1;
};

/// An entry of `grids`: the product of its lists, one cell each.
struct GridConfig {
  std::vector<Family> families;         // empty for interventions that act on all sources
  EdgeChoice edges = EdgeChoice::none;  // all: every (site, source) of the chosen sites instead of families
  std::vector<Sublayer> sublayers;      // may be empty with edges: every site
  std::vector<Band> bands;              // of attn and mlp
  std::vector<int64_t> layers;          // of attn and mlp, in addition to bands
  std::vector<Intervention> interventions;
  std::optional<double> value;     // bias: the offset; schedule: its recency bias
  bool distinct = false;           // touch every copy of a state that a site holds twice
  std::optional<Replace> replace;  // absent: both; for permute, values
  std::optional<Average> average;  // absent: all
  TokenFilter tokens = TokenFilter::all;
};

/// An entry of `cells`: sources by family or position, sites by sublayers x (bands or layers); or the union of
/// other cells, which leaves everything but name and per_token at its default.
struct CellConfig {
  std::string name;
  std::vector<Family> source_families;
  std::vector<int64_t> source_positions;
  std::vector<Sublayer> sublayers;
  std::vector<Band> bands;
  std::vector<int64_t> layers;
  Intervention intervention = Intervention::mask;
  std::optional<double> value;
  bool distinct = false;
  std::optional<Replace> replace;  // as in grids
  std::optional<Average> average;
  TokenFilter tokens = TokenFilter::all;
  std::optional<int64_t> first_token, last_token;  // positions in a sequence, inclusive; narrow `tokens`
  std::vector<std::string> union_of;               // names of cells
  bool per_token = false;                          // store the effect on every token
};

/// A contrast that is written down before it is measured: cell - exceeds > margin, or with `negative`
/// cell - exceeds < -margin.
struct ClaimConfig {
  std::string name, cell;
  std::optional<std::string> exceeds;  // a cell; absent: 0
  ClaimMeasure measure = ClaimMeasure::delta_nll;
  double margin = 0;
  bool negative = false;
};

struct StatisticsConfig {
  int64_t bootstrap = 10000;
  double alpha = 0.05;
  double margin = 0.01;
  uint64_t seed = 1;
};

struct EvalConfig {
  std::string output;  // required
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::bf16;
  int64_t micro_batch = 8;
  EvalModelConfig model;
  EvalDataConfig data;
  SplitsConfig splits;
  RoutingConfig routing;
  ResampleConfig resample;
  std::vector<GridConfig> grids;
  std::vector<CellConfig> cells;
  std::vector<ClaimConfig> claims;
  StatisticsConfig statistics;
};

}  // namespace depthroute
