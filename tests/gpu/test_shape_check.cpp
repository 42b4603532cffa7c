// The check at a production shape, at a small one on the CPU; and that it finds what it is there to find.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "configs/read.h"
#include "tests/gpu/shape_check.h"
#include "tests/support/paths.h"

namespace depthroute {
namespace {

TrainConfig tiny(const std::string& variant) {
  return read_train_config(
      test_paths::source() + "/configs/demo.yaml",
      {"model.vocab_size=61", "model.hidden_size=32", "model.intermediate_size=48", "model.num_layers=4",
       "model.num_heads=2", "model.num_kv_heads=1", "model.head_dim=16", "data.seq_len=24",
       "model.residual.num_blocks=2", "model.residual.variant=" + variant});
}

const ShapeFigure& find(const std::vector<ShapeFigure>& figures, const std::string& name) {
  const auto found = std::find_if(figures.begin(), figures.end(),
                                  [&](const ShapeFigure& figure) { return figure.name == name; });
  if (found == figures.end()) throw std::runtime_error("no figure '" + name + "'");
  return *found;
}

TEST(ShapeCheck, ThePassesThatShouldAgreeDo) {
  for (const char* variant : {"additive", "cumulative", "kimi"}) {
    const ShapeCheck check(tiny(variant), Device::cpu, 4);
    for (const ShapeFigure& figure : check.against_cpu()) EXPECT_TRUE(figure.passed()) << figure.name;
    for (const ShapeFigure& figure : check.against_single_sequences())
      EXPECT_TRUE(figure.passed()) << figure.name << ": " << figure.figure;
  }
}

TEST(ShapeCheck, RoutingGradientsAreThere) {
  const ShapeCheck check(tiny("cumulative"), Device::cpu, 1);
  ShapePass pass = check.run(Device::cpu, 1, 1);
  for (const Parameter& parameter : check.layout().all()) {
    if (parameter.name.find("layers.3.mlp_res_proj") == std::string::npos) continue;
    double square = 0;
    for (int64_t i = 0; i < parameter.numel(); ++i) {
      const float value = pass.gradients[static_cast<size_t>(parameter.offset + i)];
      square += value * value;
    }
    EXPECT_GT(square, 0) << parameter.name;
    return;
  }
  FAIL() << "the model has no such parameter";
}

TEST(ShapeCheck, FindsOneWrongParameter) {
  ShapeCheck check(tiny("cumulative"), Device::cpu, 1);
  const ShapePass reference = check.run(Device::cpu, 1, 1);
  for (const Parameter& parameter : check.layout().all()) {
    if (parameter.init == Init::recency_bias) continue;
    ShapePass wrong = reference;
    const auto begin = wrong.gradients.begin() + parameter.offset;
    // As where a kernel skips the second half of its columns.
    std::fill(begin + parameter.numel() / 2, begin + parameter.numel(), 0.0f);
    const bool routes = parameter.name.find("_res_") != std::string::npos;
    const std::vector<ShapeFigure> figures = check.compare(wrong, reference);
    const ShapeFigure& figure =
        find(figures, routes ? "direction of routing gradients" : "direction of gradients");
    if (figure.where == "no parameter differs") continue;  // no gradient: a read of one source
    EXPECT_FALSE(figure.passed()) << parameter.name;
    EXPECT_EQ(figure.where, parameter.name);
  }
}

TEST(ShapeCheck, FindsWrongLossesAndNorms) {
  ShapeCheck check(tiny("additive"), Device::cpu, 1);
  const ShapePass reference = check.run(Device::cpu, 1, 1);
  ShapePass wrong = reference;
  wrong.loss += 0.05;
  for (float& value : wrong.gradients) value *= 1.05f;
  const std::vector<ShapeFigure> figures = check.compare(wrong, reference);
  EXPECT_FALSE(find(figures, "loss").passed());
  EXPECT_FALSE(find(figures, "gradient norm").passed());
  EXPECT_TRUE(find(figures, "direction of gradients").passed());
  wrong.gradients[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(find(check.compare(wrong, reference), "gradient norm").passed());
}

TEST(ShapeCheck, DependsOnItsWeights) {
  ShapeCheck check(tiny("cumulative"), Device::cpu, 2);
  const ShapePass before = check.run(Device::cpu, 2, 2);
  check.parameters()[5] += 0.5f;
  const ShapePass after = check.run(Device::cpu, 2, 1);
  EXPECT_NE(before.loss, after.loss);
}

}  // namespace
}  // namespace depthroute
