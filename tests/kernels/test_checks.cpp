// Wrong arguments are programmer errors: the op aborts before it touches memory and names the tensor.
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::I32;
using test::kCpu;

TEST(OpChecksDeathTest, ShapeTypeDeviceAndPresenceAreChecked) {
  const F32 x({3, 5}, 1.0f), weight({5}, 1.0f), short_weight({4}, 1.0f);
  F32 y({3, 5}), rstd({3});
  const I32 integers({5}, 1);
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, x, short_weight, 1e-6f, y, rstd),
               "rms_norm_forward.*weight is \\[4\\] f32 on cpu.*must be \\[5\\]");
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, x, integers, 1e-6f, y, rstd), "weight is \\[5\\] i32");
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, x, Tensor{}, 1e-6f, y, rstd), "undefined");
  Tensor elsewhere = weight;
  elsewhere.device = Device::cuda;
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, x, elsewhere, 1e-6f, y, rstd), "weight.*on cuda.*on cpu");
  Tensor halves = x;
  halves.dtype = DType::bf16;
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, halves, weight, 1e-6f, y, rstd), "x is \\[3, 5\\] bf16 on cpu");
}

TEST(OpChecksDeathTest, StridesAreOnlyTakenWhereTheOpSaysSo) {
  const F32 wide({3, 9}, 1.0f), weight({5}, 1.0f);
  F32 y({3, 5}), rstd({3});
  EXPECT_DEATH(ops::rms_norm_forward(kCpu, wide.tensor().columns(0, 5), weight, 1e-6f, y, rstd),
               "row stride 9");
}

TEST(OpChecksDeathTest, IndicesOutsideTheVocabularyAbort) {
  const F32 table({4, 2}, 1.0f), hidden({1, 2}, 1.0f);
  F32 out({1, 2}), nll({1}),
      scratch = test::workspace(ops::cross_entropy_workspace(Device::cpu, DType::f32, 1, 4));
  for (int32_t bad : {-1, 4}) {
    EXPECT_DEATH(ops::embedding_forward(kCpu, I32({1}, bad), table, out), "outside the vocabulary");
    EXPECT_DEATH(ops::embedding_backward(kCpu, I32({1}, bad), out, table), "outside the vocabulary");
  }
  for (int32_t bad : {-2, 4})
    EXPECT_DEATH(ops::cross_entropy(kCpu, hidden, table, I32({1}, bad), 1.0f, nll, {}, {}, scratch),
                 "outside the vocabulary");
}

TEST(OpChecksDeathTest, ScratchMustBeLargeEnough) {
  const F32 table({4, 2}, 1.0f), hidden({1, 2}, 1.0f);
  F32 nll({1}), scratch = test::workspace(ops::cross_entropy_workspace(Device::cpu, DType::f32, 1, 4) - 1);
  EXPECT_DEATH(ops::cross_entropy(kCpu, hidden, table, I32({1}, 0), 1.0f, nll, {}, {}, scratch), "workspace");
}

TEST(OpChecksDeathTest, RoutingRefusesASiteWithNothingLeft) {
  const F32 source({2, 3}, 1.0f), norm_weight({3}, 1.0f);
  F32 weights({2, 1}), inv_rms({2, 1}), dots({2, 1}), rstd({2}), output({2, 3});
  const std::vector<Tensor> sources = {source};
  const std::vector<float> dropped = {-std::numeric_limits<float>::infinity()};
  const ops::RoutingSite site{.sources = sources,
                              .offset = dropped,
                              .norm_weight = norm_weight,
                              .weights = weights,
                              .inv_rms = inv_rms,
                              .dots = dots,
                              .rstd = rstd};
  EXPECT_DEATH(ops::routing_forward(kCpu, site, {}, output), "every source");
}

TEST(OpChecksDeathTest, GivenWeightsHaveARowForEveryTokenAndNoGradient) {
  const F32 source({6, 3}, 1.0f), norm_weight({3}, 1.0f), doutput({6, 3}, 1.0f);
  F32 weights({6, 1}), inv_rms({6, 1}), dots({6, 1}), rstd({6}), output({6, 3}), projection({6});
  F32 dcurrent({6, 3}), dnorm_weight({3});
  const std::vector<Tensor> sources = {source};
  ops::RoutingSite site{.sources = sources,
                        .norm_weight = norm_weight,
                        .weights = weights,
                        .inv_rms = inv_rms,
                        .dots = dots,
                        .rstd = rstd,
                        .projection = projection};
  const F32 four({4, 1}, 1.0f), two_sources({6, 2}, 1.0f), given({3, 1}, 1.0f);
  site.given = four;
  EXPECT_DEATH(ops::routing_forward(kCpu, site, {}, output), "a divisor of N");
  site.given = two_sources;
  EXPECT_DEATH(ops::routing_forward(kCpu, site, {}, output), "given is \\[6, 2\\].*must be \\[6, 1\\]");
  site.given = given;
  const F32 scratch = test::workspace(ops::routing_backward_workspace(Device::cpu, 3));
  EXPECT_DEATH(
      ops::routing_backward(kCpu, site, doutput, {}, 1, dcurrent, {.norm_weight = dnorm_weight}, scratch),
      "given weights have no gradients");
}

}  // namespace
}  // namespace depthroute
