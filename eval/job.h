// What every mode of the program (whole, part, merge, dry run) starts from: the configuration's model, data
// and cells, opened and checked, and the engine that computes on them.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "configs/cli.h"
#include "eval/cells/known_answers.h"
#include "eval/results/part.h"
#include "eval/results/results_file.h"
#include "eval/setup.h"

namespace depthroute {

struct Job {
  EvalConfig config;
  EvalModel source;
  TokenStream tokens;
  DepthPlan plan;
  std::vector<Cell> cells;
  std::vector<KnownAnswer> known_answers;

  /// InputError for what cannot work. Computes nothing, writes nothing. `model`: where another process has
  /// found what model.from names; "": find it.
  explicit Job(const EvalConfig& eval_config, const std::string& model = "");

  /// Cells that run, then known answers: views of this object.
  std::vector<Comparison> comparisons() const;
  BatchRange batches() const { return BatchRange::all(config.data.sequences, micro_batch()); }
  int64_t micro_batch() const { return std::min(config.micro_batch, config.data.sequences); }
  bool stores_weights() const {
    return config.routing.weights == RoutingWeights::all && plan.sites.front().routed;
  }
  /// Of the files a run reads, which takes hashing them; nothing about who computes.
  Provenance provenance(const CommandLine& command) const;
  PartLayout layout(const BatchRange& batches) const;
};

/// Of everything that makes results what they are: `output` is not part of it.
std::string config_hash(const EvalConfig& config);

/// Model and evaluator on one device.
struct Engine {
  Arena arena;
  Qwen3 model;
  Evaluator evaluator;
  Stream stream;

  /// Plans all memory and takes none.
  Engine(const Job& job, Device device);
  /// Throws what load() would throw of the model's tensors, but reads no values: DataError.
  void check(const Job& job) const;
  void load(const Job& job);
  std::string parameters() const;  // parameters_checksum()
};

}  // namespace depthroute
