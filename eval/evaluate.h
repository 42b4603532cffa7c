// Runs the clean model and every cell over the same tokens, tokens in the outer loop (SPEC §5). One clean
// pass per batch leaves its states in place; cells follow by descending first touched site, so each starts
// from them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/token_stream.h"
#include "eval/trace.h"
#include "kernels/arena.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// One thing to compare with the clean run. `controls` has one entry per site of the plan, or none (clean).
struct Comparison {
  std::string name;
  int first_site = 0;  // no control touches a site before it
  std::span<const SiteControl> controls;
};

/// Outcomes against the clean run on the same tokens, same kernels, same batch; sums over each sequence's
/// tokens.
struct Outcome {
  std::vector<double> delta_nll;  // [sequence] nats
  std::vector<double> kl;         // [sequence] KL(clean || ablated), nats
  std::vector<double> flips;      // [sequence] tokens whose most likely next token changed
  double largest_change = 0;      // max over tokens of |delta nll| and KL; NaN if any of them is NaN
};

struct Evaluation {
  int64_t sequences = 0, seq_len = 0;
  std::vector<float> clean_nll;   // [sequence, token] nats
  std::vector<int64_t> tokens;    // [sequence] targets that count
  std::vector<Outcome> outcomes;  // one per comparison, in its order
};

class Evaluator {
 public:
  /// Plans its own tensors in the arena the model was planned in; allocate() it before run().
  Evaluator(Qwen3& model, Arena& arena);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  struct Hooks {
    RoutingTrace* trace = nullptr;       // gathers the clean runs' weights
    RoutingTrace::WeightSink weights;    // sees them all
    std::function<void(double)> worked;  // forward-pass equivalents just done, in sequences
  };
  /// The first `sequences` windows of seq_len + 1 tokens, in order.
  Evaluation run(Stream stream, const TokenStream& tokens, int64_t sequences,
                 std::span<const Comparison> comparisons, const Hooks& hooks);

  /// Forward passes one comparison costs: the share of sites from first_site on, plus the output head's
  /// share.
  static double cost(const ModelConfig& config, int64_t seq_len, int first_site);

 private:
  struct Batch {
    int64_t first = 0, size = 0;
  };
  void load(Stream stream, const TokenStream& tokens, const Batch& batch);
  /// Compares the model's last forward pass with the clean one, into the host buffers.
  void compare(Stream stream, int64_t rows);
  void add_outcome(const Batch& batch, const Evaluation& evaluation, Outcome& outcome) const;

  Qwen3& model_;
  Tensor tokens_, targets_;    // [B,T] i32
  Tensor clean_hidden_;        // [N,D]
  Tensor nll_, kl_, flipped_;  // [N]
  Tensor workspace_;
  std::vector<int32_t> host_tokens_, host_targets_, host_flipped_;
  std::vector<float> host_nll_, host_kl_;
};

/// Indices of the comparisons by descending first site (equal ones in their order).
std::vector<int> descending_order(std::span<const Comparison> comparisons);

}  // namespace depthroute
