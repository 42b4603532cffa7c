// A folder of its own, token shards for the golden models' vocabulary, and a model with an evaluator on the
// CPU.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "configs/base/random.h"
#include "data/tokens/token_stream.h"
#include "eval/cells/known_answers.h"
#include "eval/input.h"
#include "eval/measure/routing_trace.h"
#include "eval/measure/work_plan.h"
#include "eval/sequences/sequences.h"
#include "tests/kernels/host_tensor.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "train/model/qwen3.h"

namespace depthroute {

inline std::string golden_folder(const std::string& name) { return test_paths::golden() + "/" + name; }

/// `count` tokens below `vocab`, always the same.
std::vector<int32_t> random_tokens(int64_t count, int32_t vocab = 97);
void write_shard(const std::string& path, const std::vector<int32_t>& tokens, int64_t vocab = 97);

/// Model and evaluator as the program sets them up.
struct EvalSession {
  EvalConfig config;
  EvalModel source;
  Arena arena{test::device()};
  Stream stream = test::stream();
  std::unique_ptr<Qwen3> model;
  std::unique_ptr<Evaluator> evaluator;

  /// `needs`: contents of the changes it will be run with.
  explicit EvalSession(const EvalConfig& eval_config, const ContentNeeds& needs = {});
  /// Measures the first so many windows of `tokens`.
  Evaluation run(const TokenStream& tokens, int64_t sequences, const std::vector<Comparison>& comparisons,
                 RoutingTrace* trace = nullptr);
  Evaluation run(const Sequences& sequences, const std::vector<Comparison>& comparisons,
                 RoutingTrace* trace = nullptr);
  /// The first windows, as run() measures them.
  Sequences windows(const TokenStream& tokens, int64_t sequences) const;
};

/// Comparisons of the cells that run, and of known answers; views of both.
std::vector<Comparison> comparisons_of(const std::vector<Cell>& cells);
std::vector<Comparison> comparisons_of(const std::vector<KnownAnswer>& known_answers);
/// What they need.
ContentNeeds needs_of(const DepthPlan& plan, const std::vector<Comparison>& comparisons);

/// Puts the units of a measurement together in the order of batches, as the results do.
Evaluation assemble(const Sequences& sequences, const BatchRange& batches, size_t comparisons,
                    const std::vector<UnitRecord>& units, RoutingTrace* trace = nullptr);

/// Equal, NaN for NaN.
bool same_bits(const std::vector<double>& a, const std::vector<double>& b);

/// A configuration for `model` with no cells; micro-batches of `micro_batch` windows of 7 tokens.
EvalConfig session_config(const std::string& model, int64_t micro_batch = 2);

}  // namespace depthroute
