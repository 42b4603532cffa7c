// Causal attention against float64 loops, and what must hold bit for bit: causality, independence of the
// batch and of the number of threads. On CUDA, head_dim is rounded up to what its kernels support.
#include <algorithm>
#include <cmath>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::stream;
using test::width;
using Doubles = std::vector<double>;

struct OracleResult {
  Doubles out, lse, dq, dk, dv;
};

/// softmax(q k^T / sqrt(K)) v and its gradients, one row at a time. The backward pass uses `stored`, if
/// given, as the output of the forward pass.
OracleResult oracle(const ops::AttentionShape& s, const Doubles& q, const Doubles& k, const Doubles& v,
                    const Doubles& dout, const Doubles* stored = nullptr) {
  OracleResult r{Doubles(q.size()), Doubles(s.batch * s.num_heads * s.seq_len), Doubles(q.size()),
                 Doubles(k.size()), Doubles(v.size())};
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  const int64_t group = s.num_heads / s.num_kv_heads;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.num_heads; ++h)
      for (int64_t t = 0; t < s.seq_len; ++t) {
        const int64_t row = ((b * s.seq_len + t) * s.num_heads + h) * s.head_dim;
        const auto key_row = [&](int64_t c) {
          return ((b * s.seq_len + c) * s.num_kv_heads + h / group) * s.head_dim;
        };
        Doubles p(t + 1), dp(t + 1);
        for (int64_t c = 0; c <= t; ++c)
          for (int64_t i = 0; i < s.head_dim; ++i) p[c] += scale * q[row + i] * k[key_row(c) + i];
        const double largest = *std::max_element(p.begin(), p.end());
        double total = 0;
        for (double& x : p) total += std::exp(x - largest);
        const double lse = largest + std::log(total);
        r.lse[(b * s.num_heads + h) * s.seq_len + t] = lse;
        for (double& x : p) x = std::exp(x - lse);
        double mean = 0;
        for (int64_t c = 0; c <= t; ++c) {
          for (int64_t i = 0; i < s.head_dim; ++i) {
            r.out[row + i] += p[c] * v[key_row(c) + i];
            dp[c] += dout[row + i] * v[key_row(c) + i];
            r.dv[key_row(c) + i] += p[c] * dout[row + i];
          }
        }
        for (int64_t i = 0; i < s.head_dim; ++i) mean += dout[row + i] * (stored ? *stored : r.out)[row + i];
        for (int64_t c = 0; c <= t; ++c)
          for (int64_t i = 0; i < s.head_dim; ++i) {
            const double ds = scale * p[c] * (dp[c] - mean);
            r.dq[row + i] += ds * k[key_row(c) + i];
            r.dk[key_row(c) + i] += ds * q[row + i];
          }
      }
  return r;
}

/// `Values`: F32, or BF16 if the device supports it.
template <typename Values>
struct InputsOf {
  InputsOf(const ops::AttentionShape& s, uint64_t seed, double q_scale = 1)
      : shape(s),
        q(random(s.q_cols(), seed, q_scale)),
        k(random(s.kv_cols(), seed + 1, 1)),
        v(random(s.kv_cols(), seed + 2, 1)),
        dout(random(s.q_cols(), seed + 3, 1)) {}
  ops::AttentionShape shape;
  Values q, k, v, dout;

 private:
  Values random(int64_t columns, uint64_t seed, double scale) const {
    if constexpr (std::is_same_v<Values, BF16>) {
      return test::random_bf16({shape.tokens(), columns}, seed, scale);
    } else {
      return test::random_f32({shape.tokens(), columns}, seed, scale);
    }
  }
};
using Inputs = InputsOf<F32>;

template <typename Values>
struct OutputsOf {
  explicit OutputsOf(const ops::AttentionShape& s)
      : out({s.tokens(), s.q_cols()}),
        lse({s.batch, s.num_heads, s.seq_len}),
        dq({s.tokens(), s.q_cols()}),
        dk({s.tokens(), s.kv_cols()}),
        dv({s.tokens(), s.kv_cols()}) {}
  std::vector<F32> all() const { return {out, lse, dq, dk, dv}; }
  Values out;
  F32 lse;
  Values dq, dk, dv;
};
using Outputs = OutputsOf<F32>;

F32 scratch(const ops::AttentionShape& shape, DType act = DType::f32) {
  return test::workspace(ops::attention_workspace(test::device(), act, shape));
}

template <typename Values>
OutputsOf<Values> run(const InputsOf<Values>& in) {
  OutputsOf<Values> r(in.shape);
  const F32 workspace = scratch(in.shape, in.q.tensor().dtype);
  ops::attention_forward(stream(), in.shape, in.q, in.k, in.v, r.out, r.lse, workspace);
  ops::attention_backward(stream(), in.shape, in.dout, in.q, in.k, in.v, r.out, r.lse, r.dq, r.dk, r.dv,
                          workspace);
  return r;
}

/// With one key, its probability is 1 whatever q and k are.
template <typename Values>
void expect_no_gradient_of_scores(const OutputsOf<Values>& got, double tolerance) {
  for (const double x : got.dq.doubles()) EXPECT_NEAR(x, 0, tolerance);
  for (const double x : got.dk.doubles()) EXPECT_NEAR(x, 0, tolerance);
}

void expect_close(const Inputs& in, const Outputs& got) {
  const OracleResult want =
      oracle(in.shape, in.q.doubles(), in.k.doubles(), in.v.doubles(), in.dout.doubles());
  EXPECT_LT(test::relative_l2(got.out, want.out), tolerance::kF32Forward);
  EXPECT_LT(test::relative_l2(got.lse, want.lse), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.dv, want.dv), tolerance::kF32Backward);
  if (in.shape.seq_len == 1) return expect_no_gradient_of_scores(got, 1e-5);
  EXPECT_LT(test::relative_l2(got.dq, want.dq), tolerance::kF32Backward);
  EXPECT_LT(test::relative_l2(got.dk, want.dk), tolerance::kF32Backward);
}

// The gradient of a score is P (dP - dout . out), a difference that magnifies the rounding of the stored
// `out` if few keys share the probability. So dq and dk are compared with an oracle that is given the same
// `out`, and, with twice the tolerance, with exact arithmetic.
void expect_close(const InputsOf<BF16>& in, const OutputsOf<BF16>& got) {
  const Doubles q = in.q.doubles(), k = in.k.doubles(), v = in.v.doubles(), dout = in.dout.doubles();
  const Doubles out = got.out.doubles();
  const OracleResult exact = oracle(in.shape, q, k, v, dout), want = oracle(in.shape, q, k, v, dout, &out);
  EXPECT_LT(test::relative_l2(got.out, exact.out), tolerance::kBf16Output);
  EXPECT_LT(test::relative_l2(got.lse, exact.lse), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.dv, exact.dv), tolerance::kBf16Output);
  if (in.shape.seq_len == 1) return expect_no_gradient_of_scores(got, 1e-5);
  EXPECT_LT(test::relative_l2(got.dq, want.dq), tolerance::kBf16Output);
  EXPECT_LT(test::relative_l2(got.dk, want.dk), tolerance::kBf16Output);
  EXPECT_LT(test::relative_l2(got.dq, exact.dq), 2 * tolerance::kBf16Output);
  EXPECT_LT(test::relative_l2(got.dk, exact.dk), 2 * tolerance::kBf16Output);
}

// T 530: 42 tokens per tile, so that the CPU's tiles and blocks of keys do not line up. T 1100: three of its
// blocks of keys. T 64, 65, 130: one full, a second and a third tile of the CUDA kernels.
std::vector<ops::AttentionShape> shapes() {
  return {
      {2, 1, 4, 2, 8},           {3, 3, 2, 2, width(6)},     {1, 17, 4, 1, 32},
      {2, 64, 4, 2, 64},         {2, 65, 8, 2, width(10)},   {1, 130, 3, 3, 64},
      {1, 130, 6, 2, width(2)},  {1, 129, 4, 4, width(100)}, {1, 33, 2, 1, 256},
      {1, 40, 160, 1, width(4)}, {1, 530, 3, 1, width(10)},  {1, 1100, 2, 2, width(4)},
      {1, 130, 4, 1, 128},       {2, 65, 2, 1, 72},          {1, 70, 2, 2, 256},
  };
}

testing::Message named(const ops::AttentionShape& s) {
  return testing::Message() << "B " << s.batch << " T " << s.seq_len << " H " << s.num_heads << " G "
                            << s.num_kv_heads << " K " << s.head_dim;
}

TEST(Attention, MatchesFloat64Loops) {
  for (const ops::AttentionShape& s : shapes()) {
    SCOPED_TRACE(named(s));
    const Inputs in(s, 10);
    expect_close(in, run(in));
  }
}

TEST(Attention, Bf16MatchesFloat64Loops) {
  if (!test::on_cuda()) GTEST_SKIP() << "the CPU backend has float32 only";
  for (const ops::AttentionShape& s : shapes()) {
    SCOPED_TRACE(named(s));
    const InputsOf<BF16> in(s, 10);
    expect_close(in, run(in));
  }
}

TEST(Attention, GradientsMatchFiniteDifferences) {
  const ops::AttentionShape s{2, 5, 4, 2, width(6)};
  const Inputs in(s, 20);
  const Outputs got = run(in);
  Doubles q = in.q.doubles(), k = in.k.doubles(), v = in.v.doubles();
  const Doubles dout = in.dout.doubles();
  const auto loss = [&] { return test::inner(oracle(s, q, k, v, dout).out, dout); };
  EXPECT_LT(test::relative_l2(got.dq, test::finite_difference(q, loss)), tolerance::kFiniteDifference);
  EXPECT_LT(test::relative_l2(got.dk, test::finite_difference(k, loss)), tolerance::kFiniteDifference);
  EXPECT_LT(test::relative_l2(got.dv, test::finite_difference(v, loss)), tolerance::kFiniteDifference);
}

// In the model, v and dv are columns of the fused projection; their neighbours must stay untouched.
TEST(Attention, TakesStridedValues) {
  const ops::AttentionShape s{2, 37, 4, 2, width(12)};
  const Inputs in(s, 30);
  const Outputs want = run(in);
  const int64_t first = s.q_cols() + s.kv_cols();
  F32 qkv({s.tokens(), s.qkv_cols()}, 7.0f), dqkv({s.tokens(), s.qkv_cols()}, 7.0f);
  for (int64_t t = 0; t < s.tokens(); ++t)
    std::copy_n(in.v.data() + t * s.kv_cols(), s.kv_cols(), qkv.data() + t * s.qkv_cols() + first);
  const Tensor v = qkv.tensor().columns(first, s.qkv_cols()), dv = dqkv.tensor().columns(first, s.qkv_cols());

  Outputs got(s);
  const F32 workspace = scratch(s);
  ops::attention_forward(stream(), s, in.q, in.k, v, got.out, got.lse, workspace);
  ops::attention_backward(stream(), s, in.dout, in.q, in.k, v, got.out, got.lse, got.dq, got.dk, dv,
                          workspace);
  for (int64_t t = 0; t < s.tokens(); ++t)
    for (int64_t c = 0; c < s.qkv_cols(); ++c) {
      const float value = dqkv[t * s.qkv_cols() + c];
      if (c < first)
        EXPECT_EQ(value, 7.0f);
      else
        got.dv[t * s.kv_cols() + c - first] = value;
    }
  for (size_t i = 0; i < want.all().size(); ++i) EXPECT_TRUE(got.all()[i] == want.all()[i]) << i;
}

TEST(Attention, LaterTokensChangeNothingEarlier) {
  const ops::AttentionShape s{2, 90, 4, 2, 16};
  const Inputs in(s, 40);
  const Outputs want = run(in);
  for (int64_t first : {1, 31, 64, 89}) {
    Inputs changed = in;
    const Inputs other(s, 99);
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t t = first; t < s.seq_len; ++t) {
        const int64_t row = b * s.seq_len + t;
        std::copy_n(other.q.data() + row * s.q_cols(), s.q_cols(), changed.q.data() + row * s.q_cols());
        std::copy_n(other.k.data() + row * s.kv_cols(), s.kv_cols(), changed.k.data() + row * s.kv_cols());
        std::copy_n(other.v.data() + row * s.kv_cols(), s.kv_cols(), changed.v.data() + row * s.kv_cols());
      }
    const Outputs got = run(changed);
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t row = b * s.seq_len * s.q_cols();
      EXPECT_TRUE(
          std::equal(got.out.data() + row, got.out.data() + row + first * s.q_cols(), want.out.data() + row));
      EXPECT_TRUE(
          std::equal(got.dq.data() + row, got.dq.data() + row + first * s.q_cols(), want.dq.data() + row));
      EXPECT_FALSE(std::equal(got.out.data() + row, got.out.data() + row + s.seq_len * s.q_cols(),
                              want.out.data() + row));
      for (int64_t h = 0; h < s.num_heads; ++h) {
        const int64_t at = (b * s.num_heads + h) * s.seq_len;
        EXPECT_TRUE(std::equal(got.lse.data() + at, got.lse.data() + at + first, want.lse.data() + at));
      }
    }
  }
}

TEST(Attention, SplittingTheBatchChangesNothing) {
  const ops::AttentionShape whole{3, 70, 4, 2, width(20)}, single{1, 70, 4, 2, width(20)};
  const Inputs in(whole, 50);
  const std::vector<F32> want = run(in).all();
  for (int64_t b = 0; b < whole.batch; ++b) {
    Inputs part(single, 0);
    const auto cut = [b](const F32& from, F32& to) {
      std::copy_n(from.data() + b * to.size(), to.size(), to.data());
    };
    cut(in.q, part.q);
    cut(in.k, part.k);
    cut(in.v, part.v);
    cut(in.dout, part.dout);
    const std::vector<F32> got = run(part).all();
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(
          std::equal(got[i].data(), got[i].data() + got[i].size(), want[i].data() + b * got[i].size()))
          << i;
  }
}

TEST(Attention, DoesNotDependOnThreads) {
  for (const ops::AttentionShape& s : {ops::AttentionShape{2, 150, 4, 2, 16}, {1, 600, 3, 1, 8}}) {
    const Inputs in(s, 60);
    test::expect_independent_of_threads([&] { return run(in).all(); });
  }
}

TEST(Attention, TheFirstTokenReadsItself) {
  const ops::AttentionShape s{2, 20, 4, 2, 8};
  const Inputs in(s, 70);
  const Outputs got = run(in);
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.num_heads; ++h)
      for (int64_t i = 0; i < s.head_dim; ++i)
        EXPECT_EQ(got.out[b * s.seq_len * s.q_cols() + h * s.head_dim + i],
                  in.v[b * s.seq_len * s.kv_cols() + h / 2 * s.head_dim + i]);
}

// Scores of several hundred, whose exp overflows float32.
TEST(Attention, LargeScoresDoNotOverflow) {
  const ops::AttentionShape s{1, 40, 2, 1, 16};
  const Inputs in(s, 80, 300.0);
  const Outputs got = run(in);
  const OracleResult want = oracle(s, in.q.doubles(), in.k.doubles(), in.v.doubles(), in.dout.doubles());
  EXPECT_GT(*std::max_element(want.lse.begin(), want.lse.end()), 200);
  // A score of 1e3 is known to 6e-5, and so is the logarithm of its probability.
  EXPECT_LT(test::relative_l2(got.out, want.out), 1e-4);
  EXPECT_LT(test::relative_l2(got.lse, want.lse), tolerance::kF32Statistics);
}

TEST(Attention, NanReachesTheOutput) {
  const ops::AttentionShape s{1, 12, 2, 1, 8};
  Inputs in(s, 90);
  in.k[5 * s.kv_cols() + 3] = std::numeric_limits<float>::quiet_NaN();
  const Outputs got = run(in);
  for (int64_t t = 0; t < s.seq_len; ++t)
    for (int64_t c = 0; c < s.q_cols(); ++c) EXPECT_EQ(std::isnan(got.out[t * s.q_cols() + c]), t >= 5) << t;
}

}  // namespace
}  // namespace depthroute
