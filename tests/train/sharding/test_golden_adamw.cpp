// AdamW golden cases (train/model/SPEC.md §3), through the class the trainer runs, in micro-batches of 4, and
// of 3 and 1.
//
// The golden runs are float64 at lr 0.01 on 64 tokens a step; some (`reset`, `kimi`) amplify a change in the
// last bit of the weights a thousandfold per step. A fixed tolerance would be either blind or wrong, so each
// case calibrates itself: the same run from weights moved by one float32 rounding shows what rounding alone
// does, and the distance to the golden run must stay within kSpreadFactor of that (plus a tight floor, which
// is what decides the well-conditioned cases). Independently of any chaos, every update must be AdamW's,
// recomputed here in float64 from the run's own gradients.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>

#include "configs/base/random.h"
#include "data/model/model_folder.h"
#include "tests/golden.h"
#include "tests/kernels/host_tensor.h"
#include "tests/tolerances.h"
#include "train/model/weights.h"
#include "train/step.h"

namespace depthroute {
namespace {

constexpr double kSpreadFactor = 4;

struct Trajectory {
  std::vector<double> losses, norms, parameters;
};

class GoldenAdamw : public testing::TestWithParam<std::tuple<const char*, int64_t>> {
 protected:
  void SetUp() override {
    const auto [name, micro_batch] = GetParam();
    const golden::Expected expected(name);
    shape_ = expected.shape("adamw/batches");  // [step, B, T+1]
    windows_ = expected.read_int("adamw/batches");
    golden_.losses = expected.read("adamw/loss");
    golden_.norms = expected.read("adamw/grad_norm");
    const auto attribute = [&](const char* key) { return expected.attribute("adamw", key); };
    folder_ = std::make_unique<ModelFolder>(golden::folder(name));
    config_.model = folder_->config();
    config_.precision = Precision::fp32;
    config_.data.seq_len = shape_[2] - 1;
    config_.train.steps = shape_[0];
    config_.train.global_batch = shape_[1];
    config_.train.micro_batch = micro_batch;
    config_.optimizer = {.lr = attribute("lr"),
                         .lr_min = attribute("lr_min"),
                         .lr_decay = LearningRateDecay::cosine,
                         .warmup = static_cast<int64_t>(attribute("warmup")),
                         .beta1 = attribute("beta1"),
                         .beta2 = attribute("beta2"),
                         .eps = attribute("eps"),
                         .weight_decay = attribute("weight_decay"),
                         .max_norm = attribute("max_norm")};
    TrainingStep step(config_, test::device());
    for (const Parameter& parameter : step.layout().all())
      for (double value : expected.read("adamw/params/" + parameter.name))
        golden_.parameters.push_back(value);
  }

  /// Step t of the golden batches.
  BatchSource batch(int64_t t) const {
    return [this, t](int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) {
      for (int64_t b = 0; b < count; ++b) {
        const int32_t* window = windows_.data() + ((t - 1) * shape_[1] + first + b) * shape_[2];
        std::copy(window, window + shape_[2] - 1, tokens.begin() + b * (shape_[2] - 1));
        std::copy(window + 1, window + shape_[2], targets.begin() + b * (shape_[2] - 1));
      }
    };
  }

  /// All steps, from weights moved by up to one rounding where `perturbation` is not 0.
  Trajectory run(uint64_t perturbation) {
    TrainingStep step(config_, test::device());
    step.allocate();
    const Tensor parameters = step.model().parameters();
    load_parameters(step.stream(), *folder_, step.layout(), parameters);
    std::vector<float> values = test::host_values(parameters);
    for (size_t i = 0; perturbation != 0 && i < values.size(); ++i)
      values[i] *= 1 + static_cast<float>((2 * random_unit(perturbation, i) - 1) * 0x1p-23);
    test::set_values(parameters, values);
    Trajectory result;
    std::vector<double> exact(values.begin(), values.end()), m(exact.size()), v(exact.size());
    for (int64_t t = 1; t <= config_.train.steps; ++t) {
      const StepResult done = step.run(t, batch(t));
      EXPECT_TRUE(done.applied);
      result.losses.push_back(done.loss);
      result.norms.push_back(done.grad_norm);
      if (perturbation == 0) check_update(t, step, done, exact, m, v);
    }
    values = test::host_values(parameters);
    for (const Parameter& p : step.layout().all())
      result.parameters.insert(result.parameters.end(), values.begin() + p.offset,
                               values.begin() + p.offset + p.numel());
    return result;
  }

  /// train/model/SPEC.md §3 in float64, from this step's own gradients; then from this step's own parameters
  /// on.
  void check_update(int64_t t, TrainingStep& step, const StepResult& done, std::vector<double>& exact,
                    std::vector<double>& m, std::vector<double>& v) const {
    const OptimizerConfig& o = config_.optimizer;
    const double lr =
        t <= o.warmup ? o.lr * static_cast<double>(t) / static_cast<double>(o.warmup)
                      : o.lr_min + (o.lr - o.lr_min) *
                                       (1 + std::cos(M_PI * static_cast<double>(t - o.warmup) /
                                                     static_cast<double>(config_.train.steps - o.warmup))) /
                                       2;
    EXPECT_NEAR(done.lr, lr, 1e-12);
    const std::vector<float> gradients = test::host_values(step.model().gradients()),
                             values = test::host_values(step.model().parameters());
    const double clip = std::min(1.0, o.max_norm / (done.grad_norm + 1e-6));
    for (const Parameter& p : step.layout().all())
      for (int64_t i = p.offset; i < p.offset + p.numel(); ++i) {
        const double g = clip * gradients[i];
        m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
        v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
        const double mhat = m[i] / (1 - std::pow(o.beta1, static_cast<double>(t)));
        const double vhat = v[i] / (1 - std::pow(o.beta2, static_cast<double>(t)));
        exact[i] -= lr * (mhat / (std::sqrt(vhat) + o.eps) + (p.decay ? o.weight_decay * exact[i] : 0));
        ASSERT_NEAR(values[i], exact[i], tolerance::kF32Backward * std::max(lr, std::abs(exact[i])))
            << p.name << " " << i - p.offset << " step " << t;
        exact[i] = values[i];
      }
  }

  std::vector<int64_t> shape_;
  std::vector<int32_t> windows_;
  std::unique_ptr<ModelFolder> folder_;
  TrainConfig config_;
  Trajectory golden_;
};

TEST_P(GoldenAdamw, LossesNormsAndParameters) {
  const Trajectory ours = run(0);
  // As many as it takes for the largest of them to say something about chaos: three were too few for some
  // BLAS libraries' rounding.
  constexpr uint64_t kMovedRuns = 12;
  std::vector<Trajectory> moved;
  for (uint64_t i = 1; i <= kMovedRuns; ++i) moved.push_back(run(i));
  const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
    return golden::relative_l2(a.data(), b.data(), a.size());
  };
  double parameter_spread = 0;
  for (const Trajectory& other : moved)
    parameter_spread = std::max(parameter_spread, distance(other.parameters, ours.parameters));
  for (size_t t = 0; t < golden_.losses.size(); ++t) {
    double loss_spread = 0, norm_spread = 0;
    for (const Trajectory& other : moved) {
      loss_spread = std::max(loss_spread, std::abs(other.losses[t] - ours.losses[t]));
      norm_spread = std::max(norm_spread, std::abs(other.norms[t] / ours.norms[t] - 1));
    }
    EXPECT_NEAR(ours.losses[t], golden_.losses[t], tolerance::kGoldenLoss + kSpreadFactor * loss_spread)
        << "step " << t + 1;
    EXPECT_NEAR(ours.norms[t] / golden_.norms[t], 1.0,
                tolerance::kGoldenGradient + kSpreadFactor * norm_spread)
        << "step " << t + 1;
  }
  EXPECT_LE(distance(ours.parameters, golden_.parameters),
            tolerance::kGoldenGradient + kSpreadFactor * parameter_spread);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAdamw,
                         testing::Combine(testing::ValuesIn(golden::kCases), testing::Values(1, 3, 4)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_micro" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace depthroute
