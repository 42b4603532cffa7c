#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::I32;
using test::kCpu;
using test::random_f32;

struct Row {
  std::vector<double> log_p;
  int64_t top = 0;
};

// Log-probabilities of one row, and the lowest index of the largest.
Row oracle_row(const double* hidden, const std::vector<double>& head, int64_t vocab, int64_t d) {
  Row row;
  for (int64_t v = 0; v < vocab; ++v) {
    double z = 0;
    for (int64_t c = 0; c < d; ++c) z += hidden[c] * head[v * d + c];
    row.log_p.push_back(z);
    if (z > row.log_p[row.top]) row.top = v;
  }
  double total = 0;
  for (double z : row.log_p) total += std::exp(z - row.log_p[row.top]);
  const double lse = row.log_p[row.top] + std::log(total);
  for (double& z : row.log_p) z -= lse;
  return row;
}

double oracle_loss(const std::vector<double>& hidden, const std::vector<double>& head, const I32& targets,
                   int64_t n, int64_t vocab, int64_t d) {
  double loss = 0;
  for (int64_t i = 0; i < n; ++i)
    if (targets[i] >= 0) loss -= oracle_row(&hidden[i * d], head, vocab, d).log_p[targets[i]];
  return loss;
}

struct Case {
  int64_t n, d, vocab;
  F32 hidden, head;
  I32 targets;

  Case(int64_t n_, int64_t d_, int64_t vocab_, double scale = 1.0)
      : n(n_),
        d(d_),
        vocab(vocab_),
        hidden(random_f32({n, d}, 1, scale)),
        head(random_f32({vocab, d}, 2, scale)),
        targets(test::random_i32({n}, 3, 0, static_cast<int32_t>(vocab))) {
    for (int64_t i = 2; i < n; i += 3) targets[i] = -1;
  }
  F32 scratch() const { return test::workspace(ops::cross_entropy_workspace(vocab)); }
};

class CrossEntropy : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};  // N, D, V

TEST_P(CrossEntropy, LossMatchesFloat64AndIgnoredTargetsAreZero) {
  const auto [n, d, vocab] = GetParam();
  const Case c(n, d, vocab);
  F32 nll({n}), nll_with_gradient({n}), dhidden({n, d});
  ops::cross_entropy(kCpu, c.hidden, c.head, c.targets, 1.0f, nll, {}, {}, c.scratch());
  ops::cross_entropy(kCpu, c.hidden, c.head, c.targets, 1.0f, nll_with_gradient, dhidden, {}, c.scratch());
  const std::vector<double> hidden = c.hidden.doubles(), head = c.head.doubles();
  std::vector<double> want(n);
  for (int64_t i = 0; i < n; ++i) {
    if (c.targets[i] >= 0) want[i] = -oracle_row(&hidden[i * d], head, vocab, d).log_p[c.targets[i]];
    if (c.targets[i] < 0) {
      EXPECT_EQ(nll[i], 0.0f);
      for (int64_t e = 0; e < d; ++e) EXPECT_EQ(dhidden[i * d + e], 0.0f);
    }
  }
  EXPECT_LE(relative_l2(nll, want), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(nll_with_gradient, want), tolerance::kF32Forward);
}

class CrossEntropyGradients : public CrossEntropy {};

TEST_P(CrossEntropyGradients, MatchFiniteDifferences) {
  const auto [n, d, vocab] = GetParam();
  const Case c(n, d, vocab, 0.7);
  const float scale = 0.25f;
  F32 nll({n}), dhidden({n, d}), dhead = random_f32({vocab, d}, 5);
  std::vector<double> want_dhead = dhead.doubles();
  ops::cross_entropy(kCpu, c.hidden, c.head, c.targets, scale, nll, dhidden, dhead, c.scratch());
  std::vector<double> hidden = c.hidden.doubles(), head = c.head.doubles();
  const auto loss = [&] { return scale * oracle_loss(hidden, head, c.targets, n, vocab, d); };
  const std::vector<double> want_dhidden = test::finite_difference(hidden, loss);
  const std::vector<double> gradient = test::finite_difference(head, loss);
  for (size_t i = 0; i < gradient.size(); ++i) want_dhead[i] += gradient[i];
  EXPECT_LE(relative_l2(dhidden, want_dhidden), tolerance::kF32Backward);
  EXPECT_LE(relative_l2(dhead, want_dhead), tolerance::kF32Backward);
}
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropy,
                         testing::Values(std::tuple{1, 1, 2}, std::tuple{7, 5, 97}, std::tuple{33, 3, 7},
                                         std::tuple{2100, 4, 97}, std::tuple{5, 32, 5003}));
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyGradients,
                         testing::Values(std::tuple{1, 1, 2}, std::tuple{7, 5, 97}, std::tuple{33, 3, 7}));

// More rows than one chunk of logits holds: the same numbers as one row at a time.
TEST(CrossEntropy, ChunksOfRowsDoNotShow) {
  constexpr int64_t kN = 1100, kD = 8, kVocab = 50;
  const Case c(kN, kD, kVocab);
  F32 nll({kN}), dhidden({kN, kD}), dhead({kVocab, kD}, 0.0f);
  ops::cross_entropy(kCpu, c.hidden, c.head, c.targets, 0.5f, nll, dhidden, dhead, c.scratch());
  F32 nll_parts({kN}), dhidden_parts({kN, kD}), dhead_parts({kVocab, kD}, 0.0f);
  for (int64_t begin = 0; begin < kN; begin += 100)
    ops::cross_entropy(kCpu, c.hidden.tensor().slice(begin, begin + 100), c.head,
                       c.targets.tensor().slice(begin, begin + 100), 0.5f,
                       nll_parts.tensor().slice(begin, begin + 100),
                       dhidden_parts.tensor().slice(begin, begin + 100), dhead_parts, c.scratch());
  EXPECT_LE(relative_l2(nll, nll_parts.doubles()), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(dhidden, dhidden_parts.doubles()), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(dhead, dhead_parts.doubles()), tolerance::kF32Forward);
}

TEST(CrossEntropy, ExtremeLogitsAreExactAndNaNReachesTheLoss) {
  F32 hidden({3, 1}, 1.0f), head({4, 1}, 0.0f), nll({3}), dhidden({3, 1});
  head[2] = 300.0f;
  hidden[2] = std::numeric_limits<float>::quiet_NaN();
  I32 targets({3}, 2);
  targets[0] = 1;
  const F32 scratch = test::workspace(ops::cross_entropy_workspace(4));
  for (const Tensor& gradient : {Tensor{}, dhidden.tensor()}) {
    ops::cross_entropy(kCpu, hidden, head, targets, 1.0f, nll, gradient, {}, scratch);
    EXPECT_EQ(nll[0], 300.0f);
    EXPECT_EQ(nll[1], 0.0f);
    EXPECT_TRUE(std::isnan(nll[2]));
  }
}

TEST(CrossEntropyCompare, MatchesFloat64) {
  for (const double distance : {1.0, 1e-2, 1e-4}) {
    constexpr int64_t kN = 33, kD = 5, kVocab = 97;
    const Case c(kN, kD, kVocab);
    F32 other = random_f32({kN, kD}, 9, distance);
    for (int64_t i = 0; i < other.size(); ++i) other[i] += c.hidden[i];
    F32 nll({kN}), kl({kN});
    I32 flipped({kN});
    ops::cross_entropy_compare(kCpu, c.hidden, other, c.head, c.targets, nll, kl, flipped,
                               test::workspace(ops::cross_entropy_compare_workspace(kVocab)));
    const std::vector<double> clean64 = c.hidden.doubles(), other64 = other.doubles(),
                              head = c.head.doubles();
    std::vector<double> want_nll(kN), want_kl(kN);
    int64_t flips = 0;
    for (int64_t i = 0; i < kN; ++i) {
      const Row p = oracle_row(&clean64[i * kD], head, kVocab, kD),
                q = oracle_row(&other64[i * kD], head, kVocab, kD);
      if (c.targets[i] >= 0) want_nll[i] = -q.log_p[c.targets[i]];
      for (int64_t v = 0; v < kVocab; ++v) want_kl[i] += std::exp(p.log_p[v]) * (p.log_p[v] - q.log_p[v]);
      EXPECT_EQ(flipped[i], p.top != q.top) << i;
      EXPECT_GE(kl[i], 0.0f);
      flips += flipped[i];
    }
    EXPECT_LE(relative_l2(nll, want_nll), tolerance::kF32Forward);
    // Rounding of the logits themselves, of relative size 1e-7 / distance, is all that is left in a small
    // divergence.
    EXPECT_LE(relative_l2(kl, want_kl), tolerance::kF32Statistics + 5e-7 / distance) << distance;
    EXPECT_TRUE(distance < 1.0 || flips > 0);
  }
}

TEST(CrossEntropyCompare, EqualInputsGiveExactlyZero) {
  constexpr int64_t kN = 150, kD = 33, kVocab = 1009;
  const Case c(kN, kD, kVocab, 2.0);
  const F32 copy = c.hidden;
  F32 nll({kN}), kl({kN}), plain({kN});
  I32 flipped({kN});
  ops::cross_entropy_compare(kCpu, c.hidden, copy, c.head, c.targets, nll, kl, flipped,
                             test::workspace(ops::cross_entropy_compare_workspace(kVocab)));
  EXPECT_TRUE(kl == F32({kN}, 0.0f));
  EXPECT_TRUE(flipped == I32({kN}, 0));
  ops::cross_entropy(kCpu, c.hidden, c.head, c.targets, 1.0f, plain, {}, {}, c.scratch());
  EXPECT_LE(relative_l2(nll, plain.doubles()), tolerance::kF32Forward);
}

TEST(CrossEntropyCompare, TheLowestIndexWinsTies) {
  F32 clean({1, 2}, 0.0f), other({1, 2}, 0.0f), head({3, 2}, 0.0f), nll({1}), kl({1});
  I32 flipped({1});
  head[1 * 2 + 0] = head[2 * 2 + 0] =
      1.0f;  // classes 1 and 2 tie in `clean`; class 2 leads by a hair in `other`
  head[2 * 2 + 1] = 1e-3f;
  clean[0] = other[0] = 1.0f;
  const F32 scratch = test::workspace(ops::cross_entropy_compare_workspace(3));
  ops::cross_entropy_compare(kCpu, clean, other, head, I32({1}, 0), nll, kl, flipped, scratch);
  EXPECT_EQ(flipped[0], 0);
  other[1] = 1.0f;
  ops::cross_entropy_compare(kCpu, clean, other, head, I32({1}, 0), nll, kl, flipped, scratch);
  EXPECT_EQ(flipped[0], 1);
}

TEST(CrossEntropyCompare, NaNReachesBothOutcomes) {
  F32 clean({1, 1}, 1.0f), other({1, 1}), head = random_f32({40, 1}, 1), nll({1}), kl({1});
  I32 flipped({1});
  ops::cross_entropy_compare(kCpu, clean, other, head, I32({1}, 0), nll, kl, flipped,
                             test::workspace(ops::cross_entropy_compare_workspace(40)));
  EXPECT_TRUE(std::isnan(nll[0]));
  EXPECT_TRUE(std::isnan(kl[0]));
}

}  // namespace
}  // namespace depthroute
