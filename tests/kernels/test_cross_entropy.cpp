#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::I32;
using test::random_f32;
using test::stream;
using test::width;

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

/// `Values`: F32, or BF16 if the device supports it.
template <typename Values>
struct CaseOf {
  int64_t n, d, vocab;
  Values hidden, head;
  I32 targets;

  CaseOf(int64_t n_, int64_t d_, int64_t vocab_, double scale = 1.0)
      : n(n_),
        d(width(d_)),
        vocab(vocab_),
        hidden(random(n, 1, scale)),
        head(random(vocab, 2, scale)),
        targets(test::random_i32({n}, 3, 0, static_cast<int32_t>(vocab))) {
    for (int64_t i = 2; i < n; i += 3) targets[i] = -1;
  }
  F32 scratch() const {
    return test::workspace(ops::cross_entropy_workspace(test::device(), DTypeOf<Value>::value, n, vocab));
  }
  F32 compare_scratch() const {
    return test::workspace(
        ops::cross_entropy_compare_workspace(test::device(), DTypeOf<Value>::value, n, vocab));
  }

 private:
  using Value = std::remove_cvref_t<decltype(std::declval<Values>()[0])>;
  Values random(int64_t rows, uint64_t seed, double scale) const {
    if constexpr (std::is_same_v<Values, BF16>) {
      return test::random_bf16({rows, d}, seed, scale);
    } else {
      return random_f32({rows, d}, seed, scale);
    }
  }
};
using Case = CaseOf<F32>;

F32 compare_scratch(int64_t n, int64_t vocab) {
  return test::workspace(ops::cross_entropy_compare_workspace(test::device(), DType::f32, n, vocab));
}

class CrossEntropy : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};  // N, D, V

TEST_P(CrossEntropy, LossMatchesFloat64AndIgnoredTargetsAreZero) {
  const Case c(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()));
  const auto [n, d, vocab] = std::tuple{c.n, c.d, c.vocab};
  F32 nll({n}), nll_with_gradient({n}), dhidden({n, d});
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, nll, {}, {}, c.scratch());
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, nll_with_gradient, dhidden, {},
                     c.scratch());
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
  const Case c(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()), 0.7);
  const auto [n, d, vocab] = std::tuple{c.n, c.d, c.vocab};
  const float scale = 0.25f;
  F32 nll({n}), dhidden({n, d}), dhead = random_f32({vocab, d}, 5);
  std::vector<double> want_dhead = dhead.doubles();
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, scale, nll, dhidden, dhead, c.scratch());
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
                                         std::tuple{2100, 4, 97}, std::tuple{5, 32, 5003},
                                         std::tuple{130, 16, 1000}));
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyGradients,
                         testing::Values(std::tuple{1, 1, 2}, std::tuple{7, 5, 97}, std::tuple{33, 3, 7}));

// More rows than one chunk of logits holds give the same numbers as one row at a time.
TEST(CrossEntropy, ChunksOfRowsDoNotShow) {
  const int64_t n = test::on_cuda() ? 4300 : 1100;
  constexpr int64_t kD = 8, kVocab = 50;
  const Case c(n, kD, kVocab);
  F32 nll({n}), dhidden({n, kD}), dhead({kVocab, kD}, 0.0f);
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 0.5f, nll, dhidden, dhead, c.scratch());
  F32 nll_parts({n}), dhidden_parts({n, kD}), dhead_parts({kVocab, kD}, 0.0f);
  for (int64_t begin = 0; begin < n; begin += 100)
    ops::cross_entropy(stream(), c.hidden.tensor().slice(begin, begin + 100), c.head,
                       c.targets.tensor().slice(begin, begin + 100), 0.5f,
                       nll_parts.tensor().slice(begin, begin + 100),
                       dhidden_parts.tensor().slice(begin, begin + 100), dhead_parts, c.scratch());
  EXPECT_LE(relative_l2(nll, nll_parts.doubles()), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(dhidden, dhidden_parts.doubles()), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(dhead, dhead_parts.doubles()), tolerance::kF32Forward);
}

// The host cannot check targets that are on a GPU. On the CPU such a target aborts (test_checks).
TEST(CrossEntropy, ATargetThatIsNoClassGivesNaN) {
  if (!test::on_cuda()) GTEST_SKIP() << "the CPU backend aborts";
  Case c(4, 8, 97);
  F32 nll({4}), want({4}), dhidden({4, 8});
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, want, {}, {}, c.scratch());
  c.targets[1] = 97;
  c.targets[3] = -2;
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, nll, dhidden, {}, c.scratch());
  for (int64_t i : {1, 3}) {
    EXPECT_TRUE(std::isnan(nll[i]));
    EXPECT_TRUE(std::isnan(dhidden[i * 8]));
    EXPECT_EQ(nll[i - 1], want[i - 1]);
    EXPECT_TRUE(std::isfinite(dhidden[(i - 1) * 8]));
  }
}

TEST(CrossEntropy, ExtremeLogitsAreExactAndNaNReachesTheLoss) {
  const int64_t d = width(1);
  F32 hidden({3, d}, 1.0f), head({4, d}, 0.0f), nll({3}), dhidden({3, d});
  head[2 * d] = 300.0f;
  hidden[2 * d] = std::numeric_limits<float>::quiet_NaN();
  I32 targets({3}, 2);
  targets[0] = 1;
  const F32 scratch = test::workspace(ops::cross_entropy_workspace(test::device(), DType::f32, 3, 4));
  for (const Tensor& gradient : {Tensor{}, dhidden.tensor()}) {
    ops::cross_entropy(stream(), hidden, head, targets, 1.0f, nll, gradient, {}, scratch);
    EXPECT_EQ(nll[0], 300.0f);
    EXPECT_EQ(nll[1], 0.0f);
    EXPECT_TRUE(std::isnan(nll[2]));
  }
}

template <typename Values>
void compare_with_float64(double distance, Values other /*N(0, distance^2)*/, CaseOf<Values> c) {
  for (int64_t i = 0; i < other.size(); ++i)
    other[i] = static_cast<float>(other[i]) + static_cast<float>(c.hidden[i]);
  // Every other target is what one of the two predicts, so that there are hits, and misses where they differ.
  for (int64_t i = 0; i < c.n; i += 2) {
    if (c.targets[i] < 0) continue;
    const Values& predicts = i % 4 == 0 ? c.hidden : other;
    c.targets[i] =
        static_cast<int32_t>(oracle_row(&predicts.doubles()[i * c.d], c.head.doubles(), c.vocab, c.d).top);
  }
  F32 nll({c.n}), kl({c.n});
  I32 flipped({c.n}), hit({c.n});
  ops::cross_entropy_compare(stream(), c.hidden, other, c.head, c.targets, nll, kl, flipped, hit,
                             c.compare_scratch());
  const std::vector<double> clean64 = c.hidden.doubles(), other64 = other.doubles(), head = c.head.doubles();
  std::vector<double> want_nll(c.n), want_kl(c.n);
  int64_t flips = 0;
  for (int64_t i = 0; i < c.n; ++i) {
    const Row p = oracle_row(&clean64[i * c.d], head, c.vocab, c.d),
              q = oracle_row(&other64[i * c.d], head, c.vocab, c.d);
    if (c.targets[i] < 0) {
      EXPECT_EQ(nll[i], 0.0f);
      EXPECT_EQ(kl[i], 0.0f);
      EXPECT_EQ(flipped[i], 0);
      EXPECT_EQ(hit[i], 0);
      continue;
    }
    want_nll[i] = -q.log_p[c.targets[i]];
    for (int64_t v = 0; v < c.vocab; ++v) want_kl[i] += std::exp(p.log_p[v]) * (p.log_p[v] - q.log_p[v]);
    EXPECT_EQ(flipped[i], p.top != q.top) << i;
    EXPECT_EQ(hit[i], q.top == c.targets[i]) << i;
    EXPECT_GE(kl[i], 0.0f);
    flips += flipped[i];
  }
  EXPECT_LE(relative_l2(nll, want_nll), tolerance::kF32Forward);
  // In a small divergence, only the rounding of the logits themselves remains, of relative size
  // 1e-7 / distance.
  EXPECT_LE(relative_l2(kl, want_kl), tolerance::kF32Statistics + 5e-7 / distance) << distance;
  EXPECT_TRUE(distance < 1.0 || flips > 0);
}

TEST(CrossEntropyCompare, MatchesFloat64) {
  for (const double distance : {1.0, 1e-2, 1e-4}) {
    const Case c(33, 5, 97);
    compare_with_float64(distance, random_f32({c.n, c.d}, 9, distance), c);
  }
}

TEST(CrossEntropyCompare, Bf16MatchesFloat64) {
  if (!test::on_cuda()) GTEST_SKIP() << "the CPU backend has float32 only";
  for (const double distance : {1.0, 0.1}) {
    const CaseOf<BF16> c(33, 16, 1000, 0.5);
    compare_with_float64(distance, test::random_bf16({c.n, c.d}, 9, distance), c);
  }
}

TEST(CrossEntropyCompare, EqualInputsGiveExactlyZero) {
  constexpr int64_t kN = 150;
  const Case c(kN, 33, 1009, 2.0);
  const F32 copy = c.hidden;
  F32 nll({kN}), kl({kN}), plain({kN});
  I32 flipped({kN}), hit({kN});
  ops::cross_entropy_compare(stream(), c.hidden, copy, c.head, c.targets, nll, kl, flipped, hit,
                             c.compare_scratch());
  EXPECT_TRUE(kl == F32({kN}, 0.0f));
  EXPECT_TRUE(flipped == I32({kN}, 0));
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, plain, {}, {}, c.scratch());
  EXPECT_LE(relative_l2(nll, plain.doubles()), tolerance::kF32Forward);
}

TEST(CrossEntropyCompare, SeveralAtOnceGiveTheBitsOfEachAlone) {
  constexpr int64_t kN = 150, kCount = 3;
  const Case c(kN, 33, 1009, 2.0);
  const F32 hidden = random_f32({kCount * kN, c.d}, 12);
  F32 nll({kCount * kN}), kl({kCount * kN}), alone_nll({kN}), alone_kl({kN});
  I32 flipped({kCount * kN}), hit({kCount * kN}), alone_flipped({kN}), alone_hit({kN});
  ops::cross_entropy_compare(stream(), c.hidden, hidden, c.head, c.targets, nll, kl, flipped, hit,
                             c.compare_scratch());
  for (int64_t k = 0; k < kCount; ++k) {
    F32 one({kN, c.d});
    for (int64_t i = 0; i < kN * c.d; ++i) one[i] = hidden[k * kN * c.d + i];
    ops::cross_entropy_compare(stream(), c.hidden, one, c.head, c.targets, alone_nll, alone_kl, alone_flipped,
                               alone_hit, c.compare_scratch());
    for (int64_t i = 0; i < kN; ++i) {
      EXPECT_EQ(nll[k * kN + i], alone_nll[i]) << k << " " << i;
      EXPECT_EQ(kl[k * kN + i], alone_kl[i]) << k << " " << i;
      EXPECT_EQ(flipped[k * kN + i], alone_flipped[i]) << k << " " << i;
      EXPECT_EQ(hit[k * kN + i], alone_hit[i]) << k << " " << i;
    }
  }
}

TEST(CrossEntropyCompare, TheLowestIndexWinsTies) {
  const int64_t d = width(2);
  F32 clean({1, d}, 0.0f), other({1, d}, 0.0f), head({3, d}, 0.0f), nll({1}), kl({1});
  I32 flipped({1}), hit({1});
  // Classes 1 and 2 tie in `clean`; class 2 leads by a hair in `other`.
  head[1 * d + 0] = head[2 * d + 0] = 1.0f;
  head[2 * d + 1] = 1e-3f;
  clean[0] = other[0] = 1.0f;
  const F32 scratch = compare_scratch(1, 3);
  ops::cross_entropy_compare(stream(), clean, other, head, I32({1}, 1), nll, kl, flipped, hit, scratch);
  EXPECT_EQ(flipped[0], 0);
  EXPECT_EQ(hit[0], 1);
  other[1] = 1.0f;
  ops::cross_entropy_compare(stream(), clean, other, head, I32({1}, 1), nll, kl, flipped, hit, scratch);
  EXPECT_EQ(flipped[0], 1);
  EXPECT_EQ(hit[0], 0);
}

TEST(CrossEntropyCompare, NaNReachesBothOutcomes) {
  const int64_t d = width(1);
  F32 clean({1, d}, 1.0f), other({1, d}), head = random_f32({40, d}, 1), nll({1}), kl({1});
  I32 flipped({1}), hit({1});
  ops::cross_entropy_compare(stream(), clean, other, head, I32({1}, 0), nll, kl, flipped, hit,
                             compare_scratch(1, 40));
  EXPECT_TRUE(std::isnan(nll[0]));
  EXPECT_TRUE(std::isnan(kl[0]));
  EXPECT_EQ(hit[0], 0);
  // ... but not those of a token that does not count.
  ops::cross_entropy_compare(stream(), clean, other, head, I32({1}, -1), nll, kl, flipped, hit,
                             compare_scratch(1, 40));
  EXPECT_EQ(nll[0], 0.0f);
  EXPECT_EQ(kl[0], 0.0f);
  EXPECT_EQ(flipped[0], 0);
  EXPECT_EQ(hit[0], 0);
}

}  // namespace
}  // namespace depthroute
