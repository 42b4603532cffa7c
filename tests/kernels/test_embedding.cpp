#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::I32;
using test::random_f32;
using test::stream;

class Embedding : public testing::TestWithParam<std::tuple<int64_t, int64_t, int32_t>> {};  // N, D, V

// The sums are in the order of the positions, bit for bit, on every device.
template <typename Act>
void forward_copies_and_backward_adds_in_order(int64_t n, int64_t d, int32_t vocab) {
  const I32 tokens = test::random_i32({n}, 1, 0, vocab);
  const Act table = test::random_activations<Act>({vocab, d}, 2);
  const Act dout = test::random_activations<Act>({n, d}, 3);
  Act out({n, d});
  F32 dtable = random_f32({vocab, d}, 4);
  F32 want = dtable;
  ops::embedding_forward(stream(), tokens, table, out);
  ops::embedding_backward(stream(), tokens, dout, dtable);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < d; ++c) {
      ASSERT_EQ(out[i * d + c], table[tokens[i] * d + c]);
      want[tokens[i] * d + c] += dout[i * d + c];
    }
  }
  EXPECT_TRUE(dtable == want);
}

TEST_P(Embedding, ForwardCopiesAndBackwardAddsInOrder) {
  const auto [n, d, vocab] = GetParam();
  test::for_each_activation_type([n = n, d = test::width(d), vocab = vocab]<typename Act>() {
    forward_copies_and_backward_adds_in_order<Act>(n, d, vocab);
  });
}
// The last two: more tokens than a GPU block looks at in one go, and more columns than it handles.
INSTANTIATE_TEST_SUITE_P(Shapes, Embedding,
                         testing::Values(std::tuple{1, 1, 1}, std::tuple{7, 5, 3}, std::tuple{33, 32, 97},
                                         std::tuple{200, 100, 5}, std::tuple{2200, 8, 40},
                                         std::tuple{30, 1300, 4}));

TEST(Embedding, BackwardDoesNotDependOnTheNumberOfThreads) {
  const int64_t d = test::width(100);
  test::expect_independent_of_threads([d] {
    const I32 tokens = test::random_i32({500}, 1, 0, 11);
    F32 dtable = random_f32({11, d}, 2);
    ops::embedding_backward(stream(), tokens, random_f32({500, d}, 3), dtable);
    return std::vector{dtable};
  });
}

// The host cannot see tokens on a GPU: where the CPU aborts, they must show up in the loss.
TEST(Embedding, TokensOutsideTheVocabularyAreRefusedOrGiveNan) {
  constexpr int64_t kD = 264;
  I32 tokens({4}, 1);
  tokens[0] = -1;
  tokens[2] = 3;
  const F32 table = random_f32({3, kD}, 1);
  F32 out({4, kD}), dtable = random_f32({3, kD}, 2), want = dtable;
  if (!test::on_cuda()) {
    EXPECT_DEATH(ops::embedding_forward(stream(), tokens, table, out), "outside the vocabulary");
    return;
  }
  ops::embedding_forward(stream(), tokens, table, out);
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t c = 0; c < kD; ++c)
      ASSERT_TRUE(i % 2 == 0 ? std::isnan(out[i * kD + c]) : out[i * kD + c] == table[kD + c]);
  ops::embedding_backward(stream(), tokens, F32({4, kD}, 1.0f), dtable);
  for (int64_t c = 0; c < kD; ++c) want[kD + c] = want[kD + c] + 1.0f + 1.0f;
  EXPECT_TRUE(dtable == want);
}

}  // namespace
}  // namespace depthroute
