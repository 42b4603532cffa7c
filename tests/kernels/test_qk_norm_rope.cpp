#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using ops::AttentionShape;
using test::F32;
using test::kCpu;
using test::random_f32;

constexpr double kTheta = 10'000.0;
constexpr float kEps = 1e-6f;

// One head of one token: RMSNorm, then each pair (i, i + K/2) turned by t * theta^(-2i/K), as complex numbers
// would.
std::vector<double> oracle_head(const std::vector<double>& x, const std::vector<double>& weight, int64_t t) {
  const size_t k = x.size();
  double squares = 0;
  for (double value : x) squares += value * value;
  const double r = 1 / std::sqrt(squares / static_cast<double>(k) + static_cast<double>(kEps));
  std::vector<double> out(k);
  for (size_t i = 0; i < k / 2; ++i) {
    const double angle =
        static_cast<double>(t) / std::pow(kTheta, 2 * static_cast<double>(i) / static_cast<double>(k));
    const double low = x[i] * r * weight[i], high = x[i + k / 2] * r * weight[i + k / 2];
    out[i] = low * std::cos(angle) - high * std::sin(angle);
    out[i + k / 2] = high * std::cos(angle) + low * std::sin(angle);
  }
  return out;
}

struct Case {
  AttentionShape shape;
  F32 qkv, q_weight, k_weight, rope;

  explicit Case(const AttentionShape& s)
      : shape(s),
        qkv(random_f32({s.tokens(), s.qkv_cols()}, 1, 2.0)),
        q_weight(random_f32({s.head_dim}, 2, 0.3, 1.0)),
        k_weight(random_f32({s.head_dim}, 3, 0.3, 1.0)),
        rope({s.seq_len, s.head_dim}) {
    ops::rope_table(kCpu, kTheta, rope);
  }
  std::vector<double> head(int64_t token, int64_t column) const {
    const float* begin = qkv.data() + token * shape.qkv_cols() + column;
    return {begin, begin + shape.head_dim};
  }
};

class QkNormRope : public testing::TestWithParam<AttentionShape> {};

TEST_P(QkNormRope, ForwardMatchesFloat64) {
  const Case c(GetParam());
  const AttentionShape& s = c.shape;
  F32 q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()});
  ops::qk_norm_rope_forward(kCpu, s, c.qkv, c.q_weight, c.k_weight, kEps, c.rope, q, k);
  std::vector<double> want_q, want_k;
  for (int64_t token = 0; token < s.tokens(); ++token) {
    for (int64_t head = 0; head < s.num_heads + s.num_kv_heads; ++head) {
      const bool is_q = head < s.num_heads;
      const std::vector<double> out = oracle_head(
          c.head(token, head * s.head_dim), (is_q ? c.q_weight : c.k_weight).doubles(), token % s.seq_len);
      std::vector<double>& want = is_q ? want_q : want_k;
      want.insert(want.end(), out.begin(), out.end());
    }
  }
  EXPECT_LE(relative_l2(q, want_q), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(k, want_k), tolerance::kF32Forward);
}

TEST_P(QkNormRope, BackwardIsTheGradientAndLeavesTheValueColumnsAlone) {
  const Case c(GetParam());
  const AttentionShape& s = c.shape;
  const F32 dq = random_f32({s.tokens(), s.q_cols()}, 4), dk = random_f32({s.tokens(), s.kv_cols()}, 5);
  F32 dqkv({s.tokens(), s.qkv_cols()}, 42.0f);
  F32 dq_weight = random_f32({s.head_dim}, 6), dk_weight = random_f32({s.head_dim}, 7);
  std::vector<double> want_dq_weight = dq_weight.doubles(), want_dk_weight = dk_weight.doubles();
  ops::qk_norm_rope_backward(kCpu, s, dq, dk, c.qkv, c.q_weight, c.k_weight, kEps, c.rope, dqkv, dq_weight,
                             dk_weight, test::workspace(ops::reduction_workspace(2 * s.head_dim)));

  std::vector<double> want(s.tokens() * s.qkv_cols(), 42.0);
  for (int64_t token = 0; token < s.tokens(); ++token) {
    for (int64_t head = 0; head < s.num_heads + s.num_kv_heads; ++head) {
      const bool is_q = head < s.num_heads;
      const int64_t column = head * s.head_dim;
      std::vector<double> x = c.head(token, column), weight = (is_q ? c.q_weight : c.k_weight).doubles();
      const float* d = is_q ? dq.data() + token * s.q_cols() + column
                            : dk.data() + token * s.kv_cols() + column - s.q_cols();
      const std::vector<double> d_out(d, d + s.head_dim);
      const auto loss = [&] { return test::inner(oracle_head(x, weight, token % s.seq_len), d_out); };
      const std::vector<double> dx = test::finite_difference(x, loss);
      const std::vector<double> dweight = test::finite_difference(weight, loss);
      std::vector<double>& want_dweight = is_q ? want_dq_weight : want_dk_weight;
      for (int64_t i = 0; i < s.head_dim; ++i) {
        want[token * s.qkv_cols() + column + i] = dx[i];
        want_dweight[i] += dweight[i];
      }
    }
    for (int64_t i = s.q_cols() + s.kv_cols(); i < s.qkv_cols(); ++i)
      ASSERT_EQ(dqkv[token * s.qkv_cols() + i], 42.0f);
  }
  EXPECT_LE(relative_l2(dqkv, want), tolerance::kF32Backward);
  EXPECT_LE(relative_l2(dq_weight, want_dq_weight), tolerance::kF32Backward);
  EXPECT_LE(relative_l2(dk_weight, want_dk_weight), tolerance::kF32Backward);
}
INSTANTIATE_TEST_SUITE_P(Shapes, QkNormRope,
                         testing::Values(AttentionShape{1, 1, 1, 1, 2}, AttentionShape{3, 3, 4, 2, 6},
                                         AttentionShape{2, 17, 3, 1, 64}, AttentionShape{1, 50, 2, 2, 10}));

// The point of RoPE: a product of rotated vectors depends on the distance of their positions only.
TEST(QkNormRope, ProductsDependOnRelativePositionOnly) {
  const AttentionShape s{1, 40, 1, 1, 32};
  Case c(s);
  for (int64_t token = 1; token < s.seq_len; ++token)  // the same q and k vectors at every position
    std::copy_n(c.qkv.data(), s.qkv_cols(), c.qkv.data() + token * s.qkv_cols());
  F32 q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()});
  ops::qk_norm_rope_forward(kCpu, s, c.qkv, c.q_weight, c.k_weight, kEps, c.rope, q, k);
  const auto product = [&](int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t e = 0; e < s.head_dim; ++e)
      sum += static_cast<double>(q[i * s.head_dim + e]) * static_cast<double>(k[j * s.head_dim + e]);
    return sum;
  };
  for (int64_t i = 7; i < s.seq_len; ++i) EXPECT_NEAR(product(i, i - 7), product(7, 0), 1e-4);
  EXPECT_GT(std::abs(product(20, 0) - product(7, 0)), 1e-2);
}

TEST(QkNormRope, TableKeepsFloat64AnglesAtLargePositions) {
  constexpr int64_t kT = 40'000;
  F32 table({kT, 4});
  ops::rope_table(kCpu, 1e6, table);
  const double t = static_cast<double>(kT - 1);
  const float* row = table.data() + (kT - 1) * 4;
  const double slow = t * std::pow(1e6, -0.5);
  EXPECT_NEAR(row[0], std::cos(t), 1e-7);
  EXPECT_NEAR(row[1], std::cos(slow), 1e-7);
  EXPECT_NEAR(row[2], std::sin(t), 1e-7);
  EXPECT_NEAR(row[3], std::sin(slow), 1e-7);
}

TEST(QkNormRope, DoesNotDependOnTheNumberOfThreads) {
  const Case c(AttentionShape{3, 70, 2, 1, 10});
  const AttentionShape& s = c.shape;
  test::expect_independent_of_threads([&] {
    F32 q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()}), dqkv({s.tokens(), s.qkv_cols()}, 0.0f);
    F32 dq_weight({s.head_dim}, 0.0f), dk_weight({s.head_dim}, 0.0f);
    ops::qk_norm_rope_forward(kCpu, s, c.qkv, c.q_weight, c.k_weight, kEps, c.rope, q, k);
    ops::qk_norm_rope_backward(kCpu, s, q, k, c.qkv, c.q_weight, c.k_weight, kEps, c.rope, dqkv, dq_weight,
                               dk_weight, test::workspace(ops::reduction_workspace(2 * s.head_dim)));
    return std::vector{q, k, dqkv, dq_weight, dk_weight};
  });
}

}  // namespace
}  // namespace depthroute
