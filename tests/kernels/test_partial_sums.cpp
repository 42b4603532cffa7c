// Sums over tokens that ops leave unfinished, and that one call finishes: the same bits as when each op finishes
// its own.
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::random_f32;
using test::stream;

constexpr float kEps = 1e-6f;

/// q/k norms of many layers of one width.
struct Layers {
  ops::AttentionShape shape;
  F32 rope, q_weight, k_weight;
  explicit Layers(int64_t tokens, int64_t dim)
      : shape{.batch = 1, .seq_len = tokens, .num_heads = 2, .num_kv_heads = 1, .head_dim = dim},
        rope({tokens, dim}),
        q_weight(random_f32({dim}, 2, 0.3, 1.0)),
        k_weight(random_f32({dim}, 3, 0.3, 1.0)) {
    ops::rope_table(stream(), 10'000.0, rope);
  }
  void backward(uint64_t seed, const Tensor& dq_weight, const Tensor& dk_weight,
                const Tensor& scratch) const {
    const F32 dq = random_f32({shape.tokens(), shape.q_cols()}, seed),
              dk = random_f32({shape.tokens(), shape.kv_cols()}, seed + 100),
              qkv = random_f32({shape.tokens(), shape.qkv_cols()}, seed + 200);
    F32 dqkv({shape.tokens(), shape.qkv_cols()});
    ops::qk_norm_rope_backward(stream(), shape, dq, dk, qkv, q_weight, k_weight, kEps, rope, dqkv, dq_weight,
                               dk_weight, scratch);
  }
};

struct Amount {
  int64_t tokens;
  int layers;  // of two sums each
};
class PartialSums : public testing::TestWithParam<Amount> {};

TEST_P(PartialSums, FinishedTogetherHaveTheBitsOfSumsFinishedOneByOne) {
  const int num_layers = GetParam().layers;
  const int64_t dim = test::width(8);
  const Layers layers(GetParam().tokens, dim);
  const int64_t floats = ops::reduction_workspace(test::device(), 2 * dim);
  std::vector<F32> alone, together, scratch;
  for (int i = 0; i < 2 * num_layers; ++i) {
    alone.push_back(random_f32({dim}, 1000 + static_cast<uint64_t>(i)));
    together.push_back(alone.back());
  }
  for (int i = 0; i < num_layers; ++i) scratch.push_back(test::workspace(floats));
  std::vector<ops::PartialSums> unfinished;
  for (int i = 0; i < num_layers; ++i) {
    const size_t q = 2 * static_cast<size_t>(i);
    const auto seed = static_cast<uint64_t>(10 * i + 10);
    layers.backward(seed, alone[q], alone[q + 1], test::workspace(floats));
    layers.backward(seed, {}, {}, scratch[static_cast<size_t>(i)]);
    unfinished.push_back({scratch[static_cast<size_t>(i)], 2 * dim, 0, together[q]});
    unfinished.push_back({scratch[static_cast<size_t>(i)], 2 * dim, dim, together[q + 1]});
  }
  ops::add_partial_sums(stream(), layers.shape.tokens(), unfinished);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(together[i] == alone[i]) << i;
  EXPECT_FALSE(alone[0] == random_f32({dim}, 1000));  // something was added
}
// One chunk of tokens, a few, the most; more sums than a launch takes, and few.
INSTANTIATE_TEST_SUITE_P(Amounts, PartialSums,
                         testing::Values(Amount{1, 19}, Amount{75, 17}, Amount{5000, 2}),
                         [](const auto& test) { return std::to_string(test.param.tokens) + "_tokens"; });

}  // namespace
}  // namespace depthroute
