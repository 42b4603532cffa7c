// The output head in bf16 against float64 loops on the same rounded inputs. With a gradient the logits are bf16,
// too: their rounding may blur the loss of a token, but neither the mean of many nor the loss of a token that the
// model is sure of. Chunks are as large as on a GPU.
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::I32;
using test::stream;

class CrossEntropyBf16 : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::on_cuda()) GTEST_SKIP() << "bfloat16 activations need device: cuda";
  }
};

F32 scratch(int64_t n, int64_t vocab) {
  return test::workspace(ops::cross_entropy_workspace(test::device(), DType::bf16, n, vocab));
}

/// Random hidden states and classes whose logits are N(0, deviation^2), and targets drawn from the softmax:
/// what a model of the data would see. Every third token is ignored.
struct Head {
  int64_t n, vocab, d;
  BF16 hidden, head;
  I32 targets;
  std::vector<double> hidden64, head64, nll;  // [n, d], [vocab, d], [n]: in float64

  Head(int64_t n_, int64_t vocab_, double deviation)
      : n(n_),
        vocab(vocab_),
        d(16),
        hidden(test::random_bf16({n, d}, 1)),
        head(test::random_bf16({vocab, d}, 2, deviation / std::sqrt(static_cast<double>(d)))),
        targets({n}, -1),
        hidden64(hidden.doubles()),
        head64(head.doubles()),
        nll(static_cast<size_t>(n)) {
    std::mt19937_64 engine(3);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (int64_t i = 0; i < n; ++i) {
      if (i % 3 == 2) continue;
      const std::vector<double> p = softmax(i);
      double left = uniform(engine);
      int32_t target = 0;
      while (target < vocab - 1 && (left -= p[static_cast<size_t>(target)]) > 0) ++target;
      targets[i] = target;
      nll[static_cast<size_t>(i)] = -std::log(p[static_cast<size_t>(target)]);
    }
  }

  std::vector<double> softmax(int64_t row) const {
    std::vector<double> p(static_cast<size_t>(vocab));
    double total = 0;
    for (int64_t v = 0; v < vocab; ++v) {
      double z = 0;
      for (int64_t c = 0; c < d; ++c) z += hidden64[row * d + c] * head64[v * d + c];
      total += p[v] = std::exp(z);
    }
    for (double& x : p) x /= total;
    return p;
  }

  struct Gradients {
    std::vector<double> dhidden, dhead;
  };
  /// Of scale * sum of nll.
  Gradients gradients(double scale) const {
    Gradients result{std::vector<double>(static_cast<size_t>(n * d)),
                     std::vector<double>(static_cast<size_t>(vocab * d))};
    for (int64_t i = 0; i < n; ++i) {
      if (targets[i] < 0) continue;
      const std::vector<double> p = softmax(i);
      for (int64_t v = 0; v < vocab; ++v) {
        const double g = scale * (p[v] - (v == targets[i] ? 1 : 0));
        for (int64_t c = 0; c < d; ++c) {
          result.dhidden[i * d + c] += g * head64[v * d + c];
          result.dhead[v * d + c] += g * hidden64[i * d + c];
        }
      }
    }
    return result;
  }
};

struct Error {
  double mean = 0, deviation = 0;  // of nll over the tokens that count, nats
  int64_t count = 0;
};
Error error_of(const F32& nll, const Head& c) {
  Error e;
  double squares = 0;
  for (int64_t i = 0; i < c.n; ++i) {
    if (c.targets[i] < 0) {
      EXPECT_EQ(nll[i], 0.0f);
      continue;
    }
    const double error = static_cast<double>(nll[i]) - c.nll[static_cast<size_t>(i)];
    ++e.count;
    e.mean += error;
    squares += error * error;
  }
  e.mean /= static_cast<double>(e.count);
  e.deviation = std::sqrt(squares / static_cast<double>(e.count));
  return e;
}

void expect_close(const Head& c, const tolerance::Bf16Head& allowed) {
  constexpr float kScale = 0.25f;
  F32 plain({c.n}), nll({c.n}), dhead = test::random_f32({c.vocab, c.d}, 5, 1e-3);
  const std::vector<double> before = dhead.doubles();
  BF16 dhidden({c.n, c.d});
  const F32 space = scratch(c.n, c.vocab);
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, plain, {}, {}, space);
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, kScale, nll, dhidden, dhead, space);
  // Without a gradient the logits are float32.
  EXPECT_LE(test::relative_l2(plain, c.nll), tolerance::kF32Statistics);
  const Error error = error_of(nll, c);
  EXPECT_LE(error.deviation, allowed.nll);
  EXPECT_LE(std::abs(error.mean), 3 * allowed.nll / std::sqrt(static_cast<double>(error.count)));
  const Head::Gradients want = c.gradients(kScale);
  std::vector<double> added = dhead.doubles();
  for (size_t i = 0; i < added.size(); ++i) added[i] -= before[i];
  EXPECT_LE(test::relative_l2(dhidden, want.dhidden), allowed.gradient);
  EXPECT_LE(test::relative_l2(added, want.dhead), allowed.gradient);
}

TEST_F(CrossEntropyBf16, LossIsUnbiasedAndGradientsAreClose) {
  for (const tolerance::Bf16Head& allowed : tolerance::kBf16Head) {
    SCOPED_TRACE(allowed.deviation);
    expect_close(Head(900, 2000, allowed.deviation), allowed);
  }
  SCOPED_TRACE("151936 classes");
  expect_close(Head(24, 151936, 2), tolerance::kBf16Head[1]);
}

/// The classes' first component is 1, so the first column of dhidden holds the sum over classes of the logits'
/// gradient, and the first of dhead each class's sum over tokens.
struct SureHead {
  static constexpr int64_t kN = 40, kD = 16, kVocab = 1000;
  BF16 hidden = test::random_bf16({kN, kD}, 4), head = test::random_bf16({kVocab, kD}, 5, 0.7);
  I32 targets{{kN}};

  /// `margin`: the target's logit, but for the first component.
  explicit SureHead(float margin) {
    for (int64_t v = 0; v < kVocab; ++v) head[v * kD] = 1.0f;
    for (int64_t i = 0; i < kN; ++i) {
      targets[i] = static_cast<int32_t>(7 * i + 3);
      double square = 0;
      for (int64_t c = 1; c < kD; ++c) square += std::pow(double{hidden[i * kD + c]}, 2);
      for (int64_t c = 1; c < kD; ++c)
        head[targets[i] * kD + c] = static_cast<float>(margin * double{hidden[i * kD + c]} / square);
    }
  }
};

// The target's logit is not a rounded one. With that, a token predicted with certainty would have a loss of the
// size of the rounding, up to 0.06 at a logit of 20, and even a negative one.
TEST_F(CrossEntropyBf16, TheLossOfSureTokensIsExact) {
  for (const float margin : {10.0f, 20.0f, 29.7f}) {
    const SureHead c(margin);
    F32 nll({c.kN}), plain({c.kN});
    BF16 dhidden({c.kN, c.kD});
    ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, plain, {}, {}, scratch(c.kN, c.kVocab));
    ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, nll, dhidden, {},
                       scratch(c.kN, c.kVocab));
    for (int64_t i = 0; i < c.kN; ++i) {
      EXPECT_GE(nll[i], 0.0f);
      // The other classes' logits are rounded, by 2^-9 of up to twice the margin.
      EXPECT_NEAR(nll[i], plain[i], double{margin} / 256 * double{plain[i]} + 2e-6)
          << margin << " token " << i;
    }
  }
}

// ... and the gradients of a row's logits cancel but for the rounding of each to bf16.
TEST_F(CrossEntropyBf16, TheGradientAddsUpToZero) {
  const SureHead c(3.0f);
  F32 nll({c.kN});
  BF16 dhidden({c.kN, c.kD});
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 1.0f, nll, dhidden, {}, scratch(c.kN, c.kVocab));
  for (int64_t i = 0; i < c.kN; ++i) {
    const double moved = 2 * (1 - std::exp(-double{nll[i]}));  // sum of the gradients' magnitudes
    EXPECT_LE(std::abs(double{dhidden[i * c.kD]}), moved / 512) << i;
  }
}

// A chunk has 4096 rows in training, 2048 in evaluation, and the last one is smaller.
TEST_F(CrossEntropyBf16, ChunksOfRowsDoNotShow) {
  constexpr int64_t kN = 4300, kPart = 100, kVocab = 50;
  const Head c(kN, kVocab, 2);
  F32 nll({kN}), plain({kN}), dhead({kVocab, c.d}, 0.0f);
  BF16 dhidden({kN, c.d});
  const F32 space = scratch(kN, kVocab);
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 0.5f, plain, {}, {}, space);
  ops::cross_entropy(stream(), c.hidden, c.head, c.targets, 0.5f, nll, dhidden, dhead, space);
  F32 nll_parts({kN}), plain_parts({kN}), dhead_parts({kVocab, c.d}, 0.0f);
  BF16 dhidden_parts({kN, c.d});
  for (int64_t begin = 0; begin < kN; begin += kPart) {
    const int64_t end = begin + kPart;
    const Tensor hidden = c.hidden.tensor().slice(begin, end), targets = c.targets.tensor().slice(begin, end);
    ops::cross_entropy(stream(), hidden, c.head, targets, 0.5f, plain_parts.tensor().slice(begin, end), {},
                       {}, space);
    ops::cross_entropy(stream(), hidden, c.head, targets, 0.5f, nll_parts.tensor().slice(begin, end),
                       dhidden_parts.tensor().slice(begin, end), dhead_parts, space);
  }
  EXPECT_TRUE(plain == plain_parts);
  EXPECT_TRUE(nll == nll_parts);
  EXPECT_TRUE(dhidden == dhidden_parts);
  EXPECT_LE(test::relative_l2(dhead, dhead_parts.doubles()), tolerance::kF32Statistics);
  EXPECT_LE(test::relative_l2(plain, c.nll), tolerance::kF32Statistics);
}

// At Qwen3's vocabulary 4096 rows of 2 bytes a value, for any number of tokens above; and never more than 2 GiB.
TEST_F(CrossEntropyBf16, TheWorkspaceHoldsOneChunk) {
  const auto bytes = [](int64_t tokens, int64_t vocab) {
    return 4 * ops::cross_entropy_workspace(test::device(), DType::bf16, tokens, vocab);
  };
  EXPECT_EQ(bytes(32768, 151936), int64_t{4096} * 151936 * 2);
  EXPECT_EQ(bytes(4096, 151936), int64_t{4096} * 151936 * 2);
  EXPECT_LE(bytes(32768, 600000), int64_t{2} << 30);
  // A few tokens of evaluation take a tile's rows in float32.
  EXPECT_EQ(bytes(5, 1000), 128 * 1000 * 4);
}

}  // namespace
}  // namespace depthroute
