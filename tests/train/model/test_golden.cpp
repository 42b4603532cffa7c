// Every golden case: loss, per-token NLL, every gradient, every routing weight.
#include <gtest/gtest.h>

#include <memory>

#include "tests/golden.h"
#include "tests/tolerances.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {
namespace {

/// A case, and whether sites read finished states one by one or together.
class Golden : public testing::TestWithParam<std::tuple<const char*, GroupReads>> {
 protected:
  static const char* name() { return std::get<0>(GetParam()); }
  static GroupReads group_reads() { return std::get<1>(GetParam()); }
  void SetUp() override {
    expected_ = std::make_unique<golden::Expected>(name());
    const std::vector<int64_t> shape = expected_->shape("tokens");
    batch_ = std::make_unique<Batch>(expected_->read_int("tokens"), shape[0], shape[1] - 1);
    model_ = TestModel::load(
        golden::folder(name()),
        {.micro_batch = shape[0], .seq_len = shape[1] - 1, .training = true, .group_reads = group_reads()});
    model_->model.forward(model_->stream, batch_->input_tensor());
  }

  std::unique_ptr<golden::Expected> expected_;
  std::unique_ptr<Batch> batch_;
  std::unique_ptr<TestModel> model_;
};

TEST_P(Golden, LossAndNll) {
  model_->model.loss(model_->stream, batch_->target_tensor());
  EXPECT_NEAR(model_->mean_nll(), expected_->read("loss")[0], tolerance::kGoldenLoss);
  const std::vector<double> nll = expected_->read("nll");
  const std::vector<float> ours = model_->nll();
  for (size_t i = 0; i < nll.size(); ++i)
    EXPECT_NEAR(ours[i], nll[i], tolerance::kGoldenLoss * std::max(1.0, nll[i]));
}

/// Relative L2; where the golden tensor is zero in exact arithmetic (the two equal sources of site 0), so
/// must ours be.
void expect_equal(const std::vector<double>& ours, const std::vector<double>& expected,
                  const std::string& name) {
  double square = 0, our_square = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    square += expected[i] * expected[i];
    our_square += ours[i] * ours[i];
  }
  if (std::sqrt(square) < tolerance::kGoldenZero) {
    EXPECT_LT(std::sqrt(our_square), tolerance::kGoldenZero) << name;
    return;
  }
  EXPECT_LE(golden::relative_l2(ours.data(), expected.data(), expected.size()), tolerance::kGoldenGradient)
      << name;
}

TEST_P(Golden, Gradients) {
  const double tokens = static_cast<double>(batch_->targets.size());
  model_->model.backward(model_->stream, batch_->target_tensor(), static_cast<float>(1.0 / tokens));
  EXPECT_NEAR(model_->mean_nll(), expected_->read("loss")[0], tolerance::kGoldenLoss);
  std::vector<double> biases, golden_biases;
  for (const Parameter& parameter : model_->model.layout().all()) {
    ASSERT_TRUE(expected_->has("grads/" + parameter.name)) << parameter.name;
    const std::vector<double> gradient = expected_->read("grads/" + parameter.name);
    const std::vector<float> values = test::host_values(model_->gradient(parameter.name));
    const std::vector<double> ours(values.begin(), values.end());
    ASSERT_EQ(ours.size(), gradient.size());
    if (parameter.init == Init::recency_bias) {
      biases.push_back(ours[0]);
      golden_biases.push_back(gradient[0]);
    } else {
      expect_equal(ours, gradient, parameter.name);
    }
  }
  expect_equal(biases, golden_biases, "all recency biases");
}

TEST_P(Golden, RoutingWeights) {
  const DepthPlan& plan = model_->model.plan();
  for (size_t site = 0; site < plan.sites.size(); ++site) {
    const std::string path =
        "routing/" + std::string(3 - std::to_string(site).size(), '0') + std::to_string(site);
    if (!plan.sites[site].routed) {
      EXPECT_FALSE(expected_->has(path));
      continue;
    }
    const std::vector<double> weights = expected_->read(path);  // [source, B, T]
    const Tensor trace = model_->model.trace(static_cast<int>(site)).weights;
    const std::vector<float> ours = test::host_values(trace);
    const int64_t sources = trace.cols(), tokens = trace.rows();
    ASSERT_EQ(sources * tokens, static_cast<int64_t>(weights.size()));
    double squares = 0;
    for (int64_t i = 0; i < tokens; ++i)
      for (int64_t j = 0; j < sources; ++j) {
        const double difference = ours[i * sources + j] - weights[j * tokens + i];
        squares += difference * difference;
        ASSERT_LE(std::abs(difference), tolerance::kGoldenWeight)
            << path << " token " << i << " source " << j;
      }
    EXPECT_LE(std::sqrt(squares / static_cast<double>(tokens * sources)), tolerance::kGoldenWeights) << path;
  }
}

// bf16 keeps 8 bits: states, activations and matrices in use are rounded; sums, statistics and gradients of
// parameters are not. How much that moves the gradients is the model's own matter (0.02 of them in
// `additive`, 0.2 in `kimi`, whose states start anew small): so the distance to float64 is held against what
// rounding the matrices alone does in float32.
TEST_P(Golden, Bf16StaysWithinItsRounding) {
  if (!test::on_cuda()) GTEST_SKIP() << "bf16 is computed on cuda alone";
  const std::vector<int64_t> shape = expected_->shape("tokens");
  const auto run = [&](DType activations) {
    const Qwen3Options options{.micro_batch = shape[0],
                               .seq_len = shape[1] - 1,
                               .training = true,
                               .activations = activations,
                               .group_reads = group_reads()};
    model_ = TestModel::load(golden::folder(name()), options);
    for (const Parameter& parameter : model_->model.layout().all()) {
      if (!parameter.decay || activations != DType::f32) continue;
      std::vector<float> values = test::host_values(model_->parameter(parameter.name));
      for (float& value : values) value = test::Bf16(value);
      test::set_values(model_->parameter(parameter.name), values);
    }
    model_->model.forward(model_->stream, batch_->input_tensor());
    const double tokens = static_cast<double>(batch_->targets.size());
    model_->model.backward(model_->stream, batch_->target_tensor(), static_cast<float>(1.0 / tokens));
    // All gradients as one vector: single routing parameters are differences that may cancel altogether.
    std::vector<double> ours, golden;
    for (const Parameter& parameter : model_->model.layout().all()) {
      const std::vector<double> gradient = expected_->read("grads/" + parameter.name);
      const std::vector<float> values = test::host_values(model_->gradient(parameter.name));
      golden.insert(golden.end(), gradient.begin(), gradient.end());
      ours.insert(ours.end(), values.begin(), values.end());
    }
    EXPECT_NEAR(model_->mean_nll(), expected_->read("loss")[0], tolerance::kBf16GoldenLoss);
    return golden::relative_l2(ours.data(), golden.data(), golden.size());
  };
  EXPECT_LE(run(DType::bf16), tolerance::kBf16GoldenFactor * run(DType::f32));
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Combine(testing::ValuesIn(golden::kCases),
                                          testing::Values(GroupReads::none, GroupReads::all)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) +
                                  (std::get<1>(test.param) == GroupReads::all ? "_in_groups" : "");
                         });

}  // namespace
}  // namespace depthroute
