#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::I32;
using test::kCpu;
using test::random_f32;

class Embedding : public testing::TestWithParam<std::tuple<int64_t, int64_t, int32_t>> {};  // N, D, V

TEST_P(Embedding, ForwardCopiesAndBackwardAddsInOrder) {
  const auto [n, d, vocab] = GetParam();
  const I32 tokens = test::random_i32({n}, 1, 0, vocab);
  const F32 table = random_f32({vocab, d}, 2), dout = random_f32({n, d}, 3);
  F32 out({n, d}), dtable = random_f32({vocab, d}, 4);
  F32 want = dtable;
  ops::embedding_forward(kCpu, tokens, table, out);
  ops::embedding_backward(kCpu, tokens, dout, dtable);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < d; ++c) {
      ASSERT_EQ(out[i * d + c], table[tokens[i] * d + c]);
      want[tokens[i] * d + c] += dout[i * d + c];
    }
  }
  EXPECT_TRUE(dtable == want);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Embedding,
                         testing::Values(std::tuple{1, 1, 1}, std::tuple{7, 5, 3}, std::tuple{33, 32, 97},
                                         std::tuple{200, 100, 5}));

TEST(Embedding, BackwardDoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    const I32 tokens = test::random_i32({500}, 1, 0, 11);
    F32 dtable = random_f32({11, 100}, 2);
    ops::embedding_backward(kCpu, tokens, random_f32({500, 100}, 3), dtable);
    return std::vector{dtable};
  });
}

}  // namespace
}  // namespace depthroute
