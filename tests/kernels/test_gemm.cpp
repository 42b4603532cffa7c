#include <fstream>
#include <iterator>
#include <limits>

#include "configs/base/error.h"
#include "kernels/cuda/gemm_chooser.h"
#include "kernels/gemm_choices.h"
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using ops::Transpose;
using test::BF16;
using test::F32;
using test::random_f32;
using test::stream;

class Gemm : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};  // m, n, k

// All transpositions, with beta 0 on unwritten (NaN) and
// beta 1 on filled output, on columns of wider buffers.
TEST_P(Gemm, MatchesFloat64WithStridesAndAccumulation) {
  const auto [m, n, k] = GetParam();
  constexpr int64_t kLeft = 3, kRight = 2;
  for (Transpose op_a : {Transpose::no, Transpose::yes}) {
    for (Transpose op_b : {Transpose::no, Transpose::yes}) {
      for (float beta : {0.0f, 1.0f}) {
        const int64_t a_rows = op_a == Transpose::no ? m : k, a_cols = op_a == Transpose::no ? k : m;
        const int64_t b_rows = op_b == Transpose::no ? k : n, b_cols = op_b == Transpose::no ? n : k;
        const int64_t a_width = kLeft + a_cols + kRight, b_width = kLeft + b_cols + kRight;
        const int64_t c_width = kLeft + n + kRight;
        const F32 a = random_f32({a_rows, a_width}, 1), b = random_f32({b_rows, b_width}, 2);
        F32 c = beta == 0.0f ? F32({m, c_width}) : random_f32({m, c_width}, 3);
        const F32 before = c;
        ops::gemm(stream(), op_a, op_b, a.tensor().columns(kLeft, kLeft + a_cols),
                  b.tensor().columns(kLeft, kLeft + b_cols), beta, c.tensor().columns(kLeft, kLeft + n));
        std::vector<float> got;
        std::vector<double> want;
        for (int64_t row = 0; row < m; ++row) {
          for (int64_t col = 0; col < c_width; ++col) {
            const int64_t inside = col - kLeft;
            const int64_t at = row * c_width + col;
            if (inside < 0 || inside >= n) {
              ASSERT_EQ(std::memcmp(c.data() + at, before.data() + at, sizeof(float)), 0);
              continue;
            }
            double sum = beta == 0.0f ? 0.0 : static_cast<double>(before[at]);
            for (int64_t i = 0; i < k; ++i) {
              const int64_t at_a =
                  op_a == Transpose::no ? row * a_width + kLeft + i : i * a_width + kLeft + row;
              const int64_t at_b =
                  op_b == Transpose::no ? i * b_width + kLeft + inside : inside * b_width + kLeft + i;
              sum += static_cast<double>(a[at_a]) * static_cast<double>(b[at_b]);
            }
            got.push_back(c[at]);
            want.push_back(sum);
          }
        }
        EXPECT_LE(test::relative_l2(std::span<const float>(got), std::span<const double>(want)),
                  tolerance::kF32Forward);
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, Gemm,
                         testing::Values(std::tuple{1, 1, 1}, std::tuple{7, 5, 3}, std::tuple{33, 97, 64},
                                         std::tuple{3, 130, 257}, std::tuple{100, 1, 32}));

// The model's products: bf16 with a bf16 result, rounded once, or with an accumulated float32 result.
TEST(Gemm, Bf16MatchesFloat64) {
  if (!test::on_cuda()) GTEST_SKIP() << "the CPU backend has float32 only";
  constexpr int64_t kM = 72, kN = 40, kK = 136, kLeft = 8;
  for (Transpose op_a : {Transpose::no, Transpose::yes}) {
    for (Transpose op_b : {Transpose::no, Transpose::yes}) {
      const bool flip_a = op_a == Transpose::yes, flip_b = op_b == Transpose::yes;
      const int64_t a_width = kLeft + (flip_a ? kM : kK), b_width = kLeft + (flip_b ? kK : kN);
      const BF16 a = test::random_bf16({flip_a ? kK : kM, a_width}, 1);
      const BF16 b = test::random_bf16({flip_b ? kN : kK, b_width}, 2);
      BF16 rounded({kM, kN}), added = test::random_bf16({kM, kN}, 4);
      F32 c({kM, kN}), sum = random_f32({kM, kN}, 3);
      const std::vector<double> left = a.doubles(), right = b.doubles();
      std::vector<double> want(kM * kN), want_sum = sum.doubles(), want_added = added.doubles();
      for (int64_t row = 0; row < kM; ++row)
        for (int64_t column = 0; column < kN; ++column) {
          const int64_t at = row * kN + column;
          for (int64_t i = 0; i < kK; ++i)
            want[at] += left[flip_a ? i * a_width + kLeft + row : row * a_width + kLeft + i] *
                        right[flip_b ? column * b_width + kLeft + i : i * b_width + kLeft + column];
          want_sum[at] += want[at];
          want_added[at] += want[at];
        }
      const auto product = [&](float beta, const Tensor& to) {
        ops::gemm(stream(), op_a, op_b, a.tensor().columns(kLeft, a_width),
                  b.tensor().columns(kLeft, b_width), beta, to);
      };
      product(0.0f, rounded);
      product(0.0f, c);
      product(1.0f, sum);
      product(1.0f, added);
      EXPECT_LE(relative_l2(rounded, want), tolerance::kBf16Output);
      EXPECT_LE(relative_l2(c, want), tolerance::kF32Forward);
      EXPECT_LE(relative_l2(sum, want_sum), tolerance::kF32Forward);
      EXPECT_LE(relative_l2(added, want_added), tolerance::kBf16Output);
    }
  }
}

// CPU kernels call products from inside their own parallel regions; each must then run on the calling thread.
/// Restores the default even if an assertion ends the test.
struct IndependentOfThreads {
  IndependentOfThreads() { make_independent_of_threads(true); }
  ~IndependentOfThreads() { make_independent_of_threads(false); }
};

TEST(Gemm, GivesTheSameBitsWithAnyNumberOfThreadsWhereAsked) {
  if (test::on_cuda()) GTEST_SKIP() << "of the CPU backend";
  const IndependentOfThreads scope;
  struct Case {
    ops::Transpose op_a, op_b;
    int64_t m, n, k;
  };
  // Larger and smaller than a tile, with the long sums for which OpenBLAS's own threads differ most.
  for (const Case& c : {Case{ops::Transpose::no, ops::Transpose::yes, 131, 67, 700},
                        Case{ops::Transpose::yes, ops::Transpose::no, 600, 33, 1500},
                        Case{ops::Transpose::no, ops::Transpose::no, 5, 1100, 301}}) {
    const bool ta = c.op_a == ops::Transpose::yes, tb = c.op_b == ops::Transpose::yes;
    const F32 a = random_f32(ta ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1);
    const F32 b = random_f32(tb ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2);
    test::expect_independent_of_threads([&] {
      F32 out = random_f32({c.m, c.n}, 3);
      ops::gemm(stream(), c.op_a, c.op_b, a, b, 1, out);
      return std::vector{out};
    });
    F32 tiled({c.m, c.n}), plain({c.m, c.n});
    ops::gemm(stream(), c.op_a, c.op_b, a, b, 0, tiled);
    make_independent_of_threads(false);
    ops::gemm(stream(), c.op_a, c.op_b, a, b, 0, plain);
    make_independent_of_threads(true);
    EXPECT_LE(relative_l2(tiled, plain.doubles()), tolerance::kF32Forward);
  }
}

TEST(Gemm, CallsFromSeveralThreadsDoNotDisturbEachOther) {
  using test::kCpu;
  if (test::on_cuda()) GTEST_SKIP() << "of the CPU backend";
  const F32 a = random_f32({65, 40}, 1), b = random_f32({40, 70}, 2);
  F32 want({65, 70});
  ops::gemm(kCpu, Transpose::no, Transpose::no, a, b, 0.0f, want);
  std::vector<F32> results(16, F32({65, 70}));
#pragma omp parallel for num_threads(4)
  for (F32& result : results) ops::gemm(kCpu, Transpose::no, Transpose::no, a, b, 0.0f, result);
  for (const F32& result : results) EXPECT_LE(relative_l2(result, want.doubles()), tolerance::kF32Forward);
}

TEST(Gemm, AProcessOnTheCpuDoesNotLoadCublas) {
  if (test::on_cuda()) GTEST_SKIP() << "of the CPU backend";
  const F32 a = random_f32({8, 8}, 1), b = random_f32({8, 8}, 2);
  F32 c({8, 8});
  ops::gemm(stream(), Transpose::no, Transpose::no, a, b, 0.0f, c);
  std::ifstream maps("/proc/self/maps");
  const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_NE(mapped.find("openblas"), std::string::npos);
  EXPECT_EQ(mapped.find("cublas"), std::string::npos);
}

TEST(GemmChooser, TakesTheFastestIfItIsClearlyFaster) {
  constexpr double kFailed = std::numeric_limits<double>::infinity();
  using Times = std::vector<double>;
  EXPECT_EQ(cuda::fastest(Times{10, 9, 8, 9}), 2u);
  EXPECT_EQ(cuda::fastest(Times{10, 9.81, 9.9}), 0u) << "noise";
  EXPECT_EQ(cuda::fastest(Times{10, 8, 8}), 1u) << "the library's order decides a tie";
  EXPECT_EQ(cuda::fastest(Times{kFailed, 30, 20}), 2u);
  EXPECT_EQ(cuda::fastest(Times{kFailed, kFailed}), std::nullopt);
  EXPECT_EQ(cuda::fastest(Times{}), std::nullopt);
}

TEST(GemmChooser, CandidatesTakeTurnsAndTheMedianCounts) {
  std::vector<size_t> order;
  std::vector<int> calls(3);
  const std::vector<double> medians = cuda::median_times(3, [&](size_t i) {
    order.push_back(i);
    const int call = calls[i]++;
    if (i == 1) return call == 3 ? std::numeric_limits<double>::infinity() : 1.0;  // fails once
    return call == 0 ? 1e9 : static_cast<double>(100 * i + (call * 5) % 7);        // 0 to 6 in some order
  });
  EXPECT_EQ(medians, (std::vector<double>{3, std::numeric_limits<double>::infinity(), 203}));
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ(order[i], i % 3);
}

TEST(GemmChooser, HexadecimalGoesBothWaysAndNothingElsePasses) {
  const std::array bytes = {std::byte{0x00}, std::byte{0xff}, std::byte{0x1a}};
  EXPECT_EQ(cuda::to_hex(bytes), "00ff1a");
  EXPECT_EQ(cuda::from_hex("00ff1a", 3), std::vector(bytes.begin(), bytes.end()));
  for (const char* text : {"", "00ff1", "00ff1a00", "00FF1A", "00ff1g", "0x00ff"})
    EXPECT_EQ(cuda::from_hex(text, 3), std::nullopt) << text;
}

// Products of a body are found, timed and computed; the choice holds until another is put in force.
TEST(GemmChoices, AreMadeOncePerProductAndCanBePutInForce) {
  if (!test::on_cuda()) GTEST_SKIP() << "the CPU has one algorithm";
  const F32 a = random_f32({40, 65}, 1), b = random_f32({65, 70}, 2);
  F32 first({40, 70}), tuned({40, 70}), later({40, 70});
  const auto product = [&](F32& c) { ops::gemm(stream(), Transpose::no, Transpose::no, a, b, 0.0f, c); };
  use_gemm_choices(stream(), {});
  product(first);
  F32 sum({40, 70});
  const GemmChoices choices = tune_gemm(stream(), [&] {
    product(tuned);
    product(tuned);
    ops::fill(stream(), sum, 0.0f);
    ops::gemm(stream(), Transpose::no, Transpose::no, a, b, 1.0f, sum);
  });
  ASSERT_EQ(choices.size(), 2u);
  const auto& [key, choice] = *choices.begin();
  EXPECT_EQ(key.m, 40);
  EXPECT_EQ(key.n, 70);
  EXPECT_EQ(key.k, 65);
  EXPECT_GE(choice.candidates, 1);
  EXPECT_GT(choice.microseconds, 0);
  EXPECT_EQ(report(choices).size(), 2u);
  EXPECT_LE(relative_l2(tuned, first.doubles()), tolerance::kF32Forward);
  product(later);
  EXPECT_EQ(std::memcmp(later.data(), tuned.data(), sizeof(float) * 40 * 70), 0);
  use_gemm_choices(stream(), choices);
  product(later);
  EXPECT_EQ(std::memcmp(later.data(), tuned.data(), sizeof(float) * 40 * 70), 0);

  GemmChoices unknown = choices;
  for (const char* algorithm : {"", "77", "00000000000000000000000000000000"}) {
    unknown.begin()->second.algorithm = algorithm;
    EXPECT_THROW(use_gemm_choices(stream(), unknown), DataError) << algorithm;
  }
  use_gemm_choices(stream(), {});
  product(later);
  EXPECT_EQ(std::memcmp(later.data(), first.data(), sizeof(float) * 40 * 70), 0);
}

}  // namespace
}  // namespace depthroute
