// Properties of the model that hold for any weights.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "tests/golden.h"
#include "tests/tolerances.h"
#include "tests/train/model/small_model.h"

namespace depthroute {
namespace {

std::vector<float> nll_of(TestModel& model, Batch& batch) {
  model.model.forward(model.stream, batch.input_tensor());
  model.model.loss(model.stream, batch.target_tensor());
  return model.nll();
}

// Zero queries average the sources; in `kimi` that is the plain residual stream over the number of sources,
// and every reader starts with a scale-invariant RMSNorm: the step-0 function is plain Qwen3's up to eps.
TEST(Qwen3Properties, KimiWithZeroQueriesIsPlainQwen3AtStepZero) {
  ModelConfig kimi = small_config(Variant::kimi), plain = small_config(Variant::additive);
  kimi.rms_norm_eps = plain.rms_norm_eps = 1e-12;
  TestModel a(kimi, 2, 17, false), b(plain, 2, 17, false);
  initialize_parameters(a.model.layout(), 3, 0.0, a.model.parameters());
  initialize_parameters(b.model.layout(), 3, 0.0, b.model.parameters());
  Batch batch = random_batch(2, 17, 61, 5);
  const std::vector<float> x = nll_of(a, batch), y = nll_of(b, batch);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 2e-5);
}

TEST(Qwen3Properties, RecencyBiasOf30MakesCumulativePlainQwen3) {
  TestModel wrapped(small_config(Variant::cumulative), 2, 9, false),
      plain(small_config(Variant::additive), 2, 9, false);
  initialize_parameters(wrapped.model.layout(), 3, 30.0, wrapped.model.parameters());
  initialize_parameters(plain.model.layout(), 3, 0.0, plain.model.parameters());
  Batch batch = random_batch(2, 9, 61, 6);
  const std::vector<float> x = nll_of(wrapped, batch), y = nll_of(plain, batch);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-5);
}

class EveryVariant : public testing::TestWithParam<Variant> {};

TEST_P(EveryVariant, SplittingABatchChangesNothing) {
  TestModel tested(small_config(GetParam()), 4, 12, true);
  randomize(tested, 11);
  Batch whole = random_batch(4, 12, 61, 7);
  const std::vector<float> expected = nll_of(tested, whole);
  tested.model.backward(tested.stream, whole.target_tensor(), 1.0f);
  const Tensor gradients = tested.model.gradients();
  const std::vector<float> once = test::host_values(gradients);
  ops::zero(tested.stream, gradients);
  for (int64_t b = 0; b < 4; ++b) {
    const Tensor inputs = whole.input_tensor().slice(b, b + 1),
                 targets = whole.target_tensor().slice(b, b + 1);
    tested.model.forward(tested.stream, inputs);
    tested.model.backward(tested.stream, targets, 1.0f);
    const std::vector<float> nll = tested.nll();
    for (int64_t t = 0; t < 12; ++t) EXPECT_NEAR(nll[t], expected[b * 12 + t], 1e-5);
  }
  const std::vector<double> reference(once.begin(), once.end());
  EXPECT_LE(golden::relative_l2(test::host_values(gradients).data(), reference.data(), reference.size()),
            tolerance::kF32Backward);
}

// The gradient buffer plan (shared slots) against the slope of the loss itself along random directions that
// touch every parameter: five-point differences, (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h, so that float32
// losses suffice.
TEST_P(EveryVariant, GradientsAreTheLossesSlope) {
  TestModel tested(small_config(GetParam()), 2, 7, true);
  randomize(tested, 13);
  Batch batch = random_batch(2, 7, 61, 8);
  nll_of(tested, batch);
  tested.model.backward(tested.stream, batch.target_tensor(), 1.0f / 14);
  const std::vector<float> gradients = test::host_values(tested.model.gradients()),
                           start = test::host_values(tested.model.parameters());
  for (uint64_t direction = 0; direction < 3; ++direction) {
    // Along the gradient, with random signs of a fifth of its parts flipped: a slope far above the rounding
    // of the loss.
    std::vector<double> step(start.size());
    double norm = 0, slope = 0;
    for (const Parameter& p : tested.model.layout().all())
      for (int64_t i = p.offset; i < p.offset + p.numel(); ++i) {
        step[i] = gradients[i] * (random_unit(99 + direction, i) < 0.2 ? -1 : 1);
        norm += step[i] * step[i];
      }
    for (size_t i = 0; i < step.size(); ++i) {
      step[i] *= 4e-3 / std::sqrt(norm);
      slope += step[i] * gradients[i];
    }
    const auto loss_at = [&](double distance) {
      std::vector<float> moved(start.size());
      for (size_t i = 0; i < start.size(); ++i) moved[i] = static_cast<float>(start[i] + distance * step[i]);
      test::set_values(tested.model.parameters(), moved);
      nll_of(tested, batch);
      return tested.mean_nll();
    };
    const double measured = (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) / 12;
    test::set_values(tested.model.parameters(), start);
    EXPECT_NEAR(measured / slope, 1.0, tolerance::kFiniteDifference) << "direction " << direction;
  }
}

// Nothing that is computed again instead of kept differs by a bit.
void recomputation_changes_no_bit(Variant variant, GroupReads group_reads) {
  Batch batch = random_batch(2, 9, 61, 12);
  std::vector<float> expected;
  for (const Recompute recompute : values<Recompute>()) {
    TestModel tested(small_config(variant), {.micro_batch = 2,
                                             .seq_len = 9,
                                             .training = true,
                                             .recompute = recompute,
                                             .group_reads = group_reads});
    randomize(tested, 23);
    for (int pass = 0; pass < 2; ++pass) {
      tested.model.forward(tested.stream, batch.input_tensor());
      tested.model.backward(tested.stream, batch.target_tensor(), 1.0f);
    }
    const std::vector<float> gradients = test::host_values(tested.model.gradients());
    if (expected.empty()) expected = gradients;
    ASSERT_EQ(gradients.size(), expected.size());
    EXPECT_EQ(std::memcmp(gradients.data(), expected.data(), sizeof(float) * expected.size()), 0)
        << "recompute: " << to_string(recompute);
  }
}
TEST_P(EveryVariant, RecomputationChangesNoBit) {
  recomputation_changes_no_bit(GetParam(), GroupReads::none);
  recomputation_changes_no_bit(GetParam(), GroupReads::all);
}

// Sites that read alone and sites that read together differ by rounding: losses, weights and gradients.
TEST_P(EveryVariant, GroupReadsComputeTheSame) {
  Batch batch = random_batch(2, 9, 61, 12);
  std::vector<std::vector<float>> gradients, nll;
  for (const GroupReads group_reads : {GroupReads::none, GroupReads::all}) {
    TestModel tested(small_config(GetParam()),
                     {.micro_batch = 2, .seq_len = 9, .training = true, .group_reads = group_reads});
    randomize(tested, 23);
    nll.push_back(nll_of(tested, batch));
    tested.model.backward(tested.stream, batch.target_tensor(), 1.0f);
    gradients.push_back(test::host_values(tested.model.gradients()));
  }
  for (size_t i = 0; i < nll[0].size(); ++i) EXPECT_NEAR(nll[1][i], nll[0][i], 1e-5);
  const std::vector<double> reference(gradients[0].begin(), gradients[0].end());
  EXPECT_LE(golden::relative_l2(gradients[1].data(), reference.data(), reference.size()),
            tolerance::kF32Backward);
  EXPECT_EQ(gradients[1] == gradients[0], GetParam() == Variant::additive);
}

// A second stream changes no bit where the groups of sites stay the same, which is everywhere but in `cumulative`;
// there, gradients agree up to the order of sums.
TEST_P(EveryVariant, OverlapComputesTheSame) {
  Batch batch = random_batch(2, 9, 61, 12);
  for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
    std::vector<std::vector<float>> gradients;
    for (const bool overlap : {false, true}) {
      TestModel tested(small_config(GetParam()), {.micro_batch = 2,
                                                  .seq_len = 9,
                                                  .training = true,
                                                  .recompute = recompute,
                                                  .group_reads = GroupReads::all,
                                                  .overlap = overlap});
      randomize(tested, 23);
      for (int pass = 0; pass < 2; ++pass) {
        tested.model.forward(tested.stream, batch.input_tensor());
        tested.model.backward(tested.stream, batch.target_tensor(), 1.0f);
      }
      gradients.push_back(test::host_values(tested.model.gradients()));
    }
    const std::vector<double> reference(gradients[0].begin(), gradients[0].end());
    EXPECT_LE(golden::relative_l2(gradients[1].data(), reference.data(), reference.size()),
              tolerance::kF32Backward);
    if (GetParam() != Variant::cumulative) {
      EXPECT_EQ(gradients[1], gradients[0]);
    }
  }
}

// An ablated pass that starts at site s from the states earlier passes left gives the same bits as a whole
// pass.
TEST_P(EveryVariant, StartingAtASiteReusesStatesExactly) {
  TestModel reuse(small_config(GetParam()), 2, 8, false), whole(small_config(GetParam()), 2, 8, false);
  randomize(reuse, 17);
  randomize(whole, 17);
  Batch batch = random_batch(2, 8, 61, 9);
  nll_of(reuse, batch);
  const DepthPlan& plan = reuse.model.plan();
  for (int site = static_cast<int>(plan.sites.size()) - 1; site >= 0;
       --site) {  // descending, as evaluation does
    const int n = plan.sites[site].num_sources();
    std::vector<SiteIntervention> interventions(plan.sites.size());
    interventions[site].scale.assign(n, 0.5f);
    if (n > 1) {
      interventions[site].offset.assign(n, 0.0f);
      interventions[site].offset[n - 1] = -std::numeric_limits<float>::infinity();
    }
    reuse.model.forward(reuse.stream, batch.input_tensor(), interventions, site);
    whole.model.forward(whole.stream, batch.input_tensor(), interventions);
    ASSERT_EQ(test::host_values(reuse.model.final_hidden()), test::host_values(whole.model.final_hidden()))
        << plan.site_name(site);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, EveryVariant,
                         testing::Values(Variant::additive, Variant::cumulative, Variant::reset,
                                         Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(Qwen3Properties, LearnedLogitsCanBeReplacedByASchedule) {
  TestModel tested(small_config(Variant::cumulative), 1, 6, false);
  randomize(tested, 19);
  Batch batch = random_batch(1, 6, 61, 10);
  std::vector<SiteIntervention> interventions(tested.model.plan().sites.size());
  for (size_t s = 0; s < interventions.size(); ++s) {
    interventions[s].learned_logits = false;
    interventions[s].offset.assign(tested.model.plan().sites[s].num_sources(), 0.0f);
    interventions[s].offset.back() = 2.0f;
  }
  tested.model.forward(tested.stream, batch.input_tensor(), interventions);
  for (size_t s = 0; s < interventions.size(); ++s) {
    const std::vector<float> weights = test::host_values(tested.model.trace(static_cast<int>(s)).weights);
    const int n = tested.model.plan().sites[s].num_sources();
    for (int i = 0; i < static_cast<int>(weights.size()); ++i) {
      const ScheduleWeights schedule = schedule_weights(n, 2.0);
      EXPECT_NEAR(weights[i], i % n == n - 1 ? schedule.current : schedule.other, 1e-7);
    }
  }
}

}  // namespace
}  // namespace depthroute
