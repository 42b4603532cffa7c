#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using ops::AttentionShape;
using test::F32;
using test::random_f32;
using test::stream;

constexpr double kTheta = 10'000.0;
constexpr float kEps = 1e-6f;

// One head of one token: each pair (i, i + K/2) rotated by t * theta^(-2i/K), as a complex number.
std::vector<double> rotated(const std::vector<double>& x, int64_t t) {
  const size_t k = x.size();
  std::vector<double> out(k);
  for (size_t i = 0; i < k / 2; ++i) {
    const double angle =
        static_cast<double>(t) / std::pow(kTheta, 2 * static_cast<double>(i) / static_cast<double>(k));
    out[i] = x[i] * std::cos(angle) - x[i + k / 2] * std::sin(angle);
    out[i + k / 2] = x[i + k / 2] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return out;
}

// The same after RMSNorm.
std::vector<double> oracle_head(std::vector<double> x, const std::vector<double>& weight, int64_t t) {
  double squares = 0;
  for (double value : x) squares += value * value;
  const double r = 1 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(kEps));
  for (size_t i = 0; i < x.size(); ++i) x[i] *= r * weight[i];
  return rotated(x, t);
}

AttentionShape on_device(AttentionShape shape) {
  shape.head_dim = test::width(shape.head_dim);
  return shape;
}

template <typename Act>
struct Case {
  AttentionShape shape;
  Act qkv;
  F32 q_weight, k_weight, rope;

  explicit Case(const AttentionShape& s)
      : shape(s),
        qkv(test::random_activations<Act>({s.tokens(), s.qkv_cols()}, 1, 2.0)),
        q_weight(random_f32({s.head_dim}, 2, 0.3, 1.0)),
        k_weight(random_f32({s.head_dim}, 3, 0.3, 1.0)),
        rope({s.seq_len, s.head_dim}) {
    ops::rope_table(stream(), kTheta, rope);
  }
  std::vector<double> head(int64_t token, int64_t column) const {
    const auto* begin = qkv.data() + token * shape.qkv_cols() + column;
    return {begin, begin + shape.head_dim};
  }
  void forward(Act& q, Act& k) const {
    ops::qk_norm_rope_forward(stream(), shape, qkv, q_weight, k_weight, kEps, rope, q, k);
  }
  void backward(const Act& dq, const Act& dk, Act& dqkv, F32& dq_weight, F32& dk_weight) const {
    ops::qk_norm_rope_backward(stream(), shape, dq, dk, qkv, q_weight, k_weight, kEps, rope, dqkv, dq_weight,
                               dk_weight,
                               test::workspace(ops::reduction_workspace(test::device(), 2 * shape.head_dim)));
  }
};

class QkNormRope : public testing::TestWithParam<AttentionShape> {};

template <typename Act>
void forward_matches_float64(const AttentionShape& s) {
  const Case<Act> c(s);
  Act q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()});
  c.forward(q, k);
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
  EXPECT_LE(relative_l2(q, want_q), test::activation_tolerance<Act>(tolerance::kF32Forward));
  EXPECT_LE(relative_l2(k, want_k), test::activation_tolerance<Act>(tolerance::kF32Forward));
}

TEST_P(QkNormRope, ForwardMatchesFloat64) {
  test::for_each_activation_type(
      [shape = on_device(GetParam())]<typename Act>() { forward_matches_float64<Act>(shape); });
}

template <typename Act>
void backward_is_the_gradient(const AttentionShape& s) {
  const Case<Act> c(s);
  const Act dq = test::random_activations<Act>({s.tokens(), s.q_cols()}, 4);
  const Act dk = test::random_activations<Act>({s.tokens(), s.kv_cols()}, 5);
  Act dqkv({s.tokens(), s.qkv_cols()}, 42.0f);
  F32 dq_weight = random_f32({s.head_dim}, 6), dk_weight = random_f32({s.head_dim}, 7);
  std::vector<double> want_dq_weight = dq_weight.doubles(), want_dk_weight = dk_weight.doubles();
  c.backward(dq, dk, dqkv, dq_weight, dk_weight);

  std::vector<double> want(s.tokens() * s.qkv_cols(), 42.0);
  for (int64_t token = 0; token < s.tokens(); ++token) {
    for (int64_t head = 0; head < s.num_heads + s.num_kv_heads; ++head) {
      const bool is_q = head < s.num_heads;
      const int64_t column = head * s.head_dim;
      std::vector<double> x = c.head(token, column), weight = (is_q ? c.q_weight : c.k_weight).doubles();
      const auto* d = is_q ? dq.data() + token * s.q_cols() + column
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
  // The untouched 42s would hide errors in a relative distance.
  std::vector<double> got = dqkv.doubles();
  for (std::vector<double>* values : {&got, &want})
    for (size_t i = 0; i < values->size(); ++i)
      if (static_cast<int64_t>(i) % s.qkv_cols() >= s.q_cols() + s.kv_cols()) (*values)[i] = 0;
  EXPECT_LE(test::relative_l2(got, want), test::activation_tolerance<Act>(tolerance::kF32Backward));
  EXPECT_LE(relative_l2(dq_weight, want_dq_weight), tolerance::kF32Backward);
  EXPECT_LE(relative_l2(dk_weight, want_dk_weight), tolerance::kF32Backward);
}

TEST_P(QkNormRope, BackwardIsTheGradientAndLeavesTheValueColumnsAlone) {
  test::for_each_activation_type(
      [shape = on_device(GetParam())]<typename Act>() { backward_is_the_gradient<Act>(shape); });
}
// Without weights: RoPE alone, and backward its inverse. Neither qkv nor a workspace is needed for that.
template <typename Act>
void rope_alone_matches_float64(const AttentionShape& s) {
  const Case<Act> c(s);
  Act q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()}), back({s.tokens(), s.qkv_cols()}, 42.0f);
  ops::qk_norm_rope_forward(stream(), s, c.qkv, {}, {}, kEps, c.rope, q, k);
  ops::qk_norm_rope_backward(stream(), s, q, k, c.qkv, {}, {}, kEps, c.rope, back, {}, {}, {});
  std::vector<double> want_q, want_k, want_back, got_back;
  for (int64_t token = 0; token < s.tokens(); ++token) {
    for (int64_t head = 0; head < s.num_heads + s.num_kv_heads; ++head) {
      const std::vector<double> x = c.head(token, head * s.head_dim), out = rotated(x, token % s.seq_len);
      std::vector<double>& want = head < s.num_heads ? want_q : want_k;
      want.insert(want.end(), out.begin(), out.end());
      want_back.insert(want_back.end(), x.begin(), x.end());
    }
    const auto* row = back.data() + token * s.qkv_cols();
    got_back.insert(got_back.end(), row, row + s.q_cols() + s.kv_cols());
    for (int64_t i = s.q_cols() + s.kv_cols(); i < s.qkv_cols(); ++i) ASSERT_EQ(row[i], 42.0f);
  }
  EXPECT_LE(relative_l2(q, want_q), test::activation_tolerance<Act>(tolerance::kF32Forward));
  EXPECT_LE(relative_l2(k, want_k), test::activation_tolerance<Act>(tolerance::kF32Forward));
  EXPECT_LE(test::relative_l2(got_back, want_back), test::activation_tolerance<Act>(tolerance::kF32Backward));
}

TEST_P(QkNormRope, WithoutWeightsItIsRopeAloneAndBackwardTurnsBack) {
  test::for_each_activation_type(
      [shape = on_device(GetParam())]<typename Act>() { rope_alone_matches_float64<Act>(shape); });
}

// Heads whose eighth is not a power of two (24, 40), that fill a warp (256), or share it (the others).
INSTANTIATE_TEST_SUITE_P(Shapes, QkNormRope,
                         testing::Values(AttentionShape{1, 1, 1, 1, 2}, AttentionShape{3, 3, 4, 2, 6},
                                         AttentionShape{2, 17, 3, 1, 64}, AttentionShape{1, 50, 2, 2, 10},
                                         AttentionShape{2, 5, 5, 1, 24}, AttentionShape{1, 3, 3, 3, 40},
                                         AttentionShape{1, 3, 3, 1, 128}, AttentionShape{1, 2, 2, 1, 256}));

// The point of RoPE: a product of rotated vectors depends on the distance of their positions only.
TEST(QkNormRope, ProductsDependOnRelativePositionOnly) {
  const AttentionShape s{1, 40, 1, 1, 32};
  Case<F32> c(s);
  for (int64_t token = 1; token < s.seq_len; ++token)  // the same q and k vectors at every position
    std::copy_n(c.qkv.data(), s.qkv_cols(), c.qkv.data() + token * s.qkv_cols());
  F32 q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()});
  c.forward(q, k);
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
  ops::rope_table(stream(), 1e6, table);
  const double t = static_cast<double>(kT - 1);
  const float* row = table.data() + (kT - 1) * 4;
  const double slow = t * std::pow(1e6, -0.5);
  EXPECT_NEAR(row[0], std::cos(t), 1e-7);
  EXPECT_NEAR(row[1], std::cos(slow), 1e-7);
  EXPECT_NEAR(row[2], std::sin(t), 1e-7);
  EXPECT_NEAR(row[3], std::sin(slow), 1e-7);
}

TEST(QkNormRope, DoesNotDependOnTheNumberOfThreads) {
  const Case<F32> c(on_device({3, 70, 2, 1, 10}));
  const AttentionShape& s = c.shape;
  test::expect_independent_of_threads([&] {
    F32 q({s.tokens(), s.q_cols()}), k({s.tokens(), s.kv_cols()}), dqkv({s.tokens(), s.qkv_cols()}, 0.0f);
    F32 dq_weight({s.head_dim}, 0.0f), dk_weight({s.head_dim}, 0.0f);
    c.forward(q, k);
    c.backward(q, k, dqkv, dq_weight, dk_weight);
    return std::vector{q, k, dqkv, dq_weight, dk_weight};
  });
}

}  // namespace
}  // namespace depthroute
