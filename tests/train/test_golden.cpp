// Every golden case (SPEC §7): loss, per-token NLL, every gradient, every routing weight.
#include <gtest/gtest.h>

#include <memory>

#include "tests/golden.h"
#include "tests/tolerances.h"
#include "tests/train/model_fixture.h"

namespace depthroute {
namespace {

class Golden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    expected_ = std::make_unique<golden::Expected>(GetParam());
    const std::vector<int64_t> shape = expected_->shape("tokens");
    batch_ = std::make_unique<Batch>(expected_->read_int("tokens"), shape[0], shape[1] - 1);
    model_.reset(TestModel::load(golden::folder(GetParam()), shape[0], shape[1] - 1, true));
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
  for (size_t i = 0; i < nll.size(); ++i)
    EXPECT_NEAR(model_->model.nll().data<float>()[i], nll[i], tolerance::kGoldenLoss * std::max(1.0, nll[i]));
}

TEST_P(Golden, Gradients) {
  const double tokens = static_cast<double>(batch_->targets.size());
  model_->model.backward(model_->stream, batch_->target_tensor(), static_cast<float>(1.0 / tokens));
  EXPECT_NEAR(model_->mean_nll(), expected_->read("loss")[0], tolerance::kGoldenLoss);
  for (const Parameter& parameter : model_->model.layout().all()) {
    ASSERT_TRUE(expected_->has("grads/" + parameter.name)) << parameter.name;
    const std::vector<double> gradient = expected_->read("grads/" + parameter.name);
    const Tensor ours = model_->gradient(parameter.name);
    ASSERT_EQ(ours.numel(), static_cast<int64_t>(gradient.size()));
    EXPECT_LE(golden::relative_l2(ours.data<float>(), gradient.data(), gradient.size()), tolerance::kGoldenGradient)
        << parameter.name;
  }
}

TEST_P(Golden, RoutingWeights) {
  const DepthPlan& plan = model_->model.plan();
  for (size_t site = 0; site < plan.sites.size(); ++site) {
    const std::string path = "routing/" + std::string(3 - std::to_string(site).size(), '0') + std::to_string(site);
    if (!plan.sites[site].routed) {
      EXPECT_FALSE(expected_->has(path));
      continue;
    }
    const std::vector<double> weights = expected_->read(path);  // [source, B, T]
    const Tensor ours = model_->model.trace(static_cast<int>(site)).weights;
    const int64_t sources = ours.cols(), tokens = ours.rows();
    ASSERT_EQ(sources * tokens, static_cast<int64_t>(weights.size()));
    for (int64_t i = 0; i < tokens; ++i)
      for (int64_t j = 0; j < sources; ++j)
        ASSERT_NEAR(ours.data<float>()[i * sources + j], weights[j * tokens + i], tolerance::kGoldenWeights)
            << path << " token " << i << " source " << j;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(golden::kCases),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace depthroute
