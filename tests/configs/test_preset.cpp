// The presets, what is printed of them, and REFERENCE.md.
#include <gtest/gtest.h>

#include "tests/configs/support.h"
#include "tests/support/paths.h"

namespace depthroute::test {
namespace {

template <typename Config, typename Parse>
void expect_round_trip(const Config& config, Parse parse, const std::string& name) {
  const std::string yaml = to_yaml(config);
  const Config back = parse(yaml, name);
  EXPECT_EQ(flatten(back), flatten(config)) << name << ":\n" << yaml;
  EXPECT_EQ(to_yaml(back), yaml) << name;
}

TEST(Presets, AllReadAndRoundTrip) {
  const auto train = [](const std::string& text, const std::string& name) {
    return parse_train_config(text, name);
  };
  const auto eval = [](const std::string& text, const std::string& name) {
    return parse_eval_config(text, name);
  };
  for (const auto& path : presets()) {
    const std::string name = path.filename().string();
    EXPECT_EQ(slurp(path).substr(0, 2), "# ") << name << " should begin by saying what it is for";
    if (is_eval(path))
      expect_round_trip(read_eval_config(path.string()), eval, name);
    else
      expect_round_trip(read_train_config(path.string()), train, name);
  }
  EXPECT_GE(presets().size(), 9u);
  expect_round_trip(parse_eval_config(kEveryEvalKey, "eval.yaml"), eval, "every key");
  expect_round_trip(parse_eval_config(kEval, "eval.yaml"), eval, "defaults");
}

TEST(Presets, OddTextRoundTrips) {
  TrainConfig config = parse_train_config(kTrain, "run.yaml");
  config.output = "a: b # \"c\" \\ \n\té";
  config.model_from = "null";
  config.data.val = {"12", "true", "- x", "~"};
  config.model.residual.sublayers_per_block = 5;
  config.optimizer.lr = 0.1 + 0.2;
  const TrainConfig back = parse_train_config(to_yaml(config), "run.yaml");
  EXPECT_EQ(back.output, config.output);
  EXPECT_EQ(back.model_from, config.model_from);
  EXPECT_EQ(back.data.val, config.data.val);
  EXPECT_EQ(back.model, config.model);
  EXPECT_EQ(back.optimizer.lr, config.optimizer.lr);
}

TEST(Presets, ShapesAreWhatTheirNamesSay) {
  const std::string folder = test_paths::source() + "/configs/";
  const TrainConfig cumulative = read_train_config(folder + "qwen3-0.6b-cumulative.yaml");
  EXPECT_EQ(cumulative.model, ModelConfig{});  // the defaults are Qwen3-0.6B's shape
  EXPECT_EQ(read_train_config(folder + "qwen3-0.6b-kimi.yaml").model.residual.variant, Variant::kimi);
  EXPECT_EQ(read_train_config(folder + "qwen3-0.6b-additive.yaml").model.residual.variant, Variant::additive);
  EXPECT_EQ(read_train_config(folder + "open-attnres-0.6b.yaml").model.head_dim, 64);
  const TrainConfig demo = read_train_config(folder + "demo.yaml");
  const EvalConfig evaluated = read_eval_config(folder + "eval-demo.yaml");
  EXPECT_EQ(evaluated.model.from, demo.output + "/checkpoints/latest");
  EXPECT_EQ(evaluated.data.shards, demo.data.val);
  const EvalConfig wrapped = read_eval_config(folder + "eval-wrapped-demo.yaml");
  ASSERT_TRUE(wrapped.model.wrap.has_value());
  EXPECT_EQ(wrapped.model.wrap->num_blocks, demo.model.residual.num_blocks);
}

TEST(Reference, IsWhatTheProgramsPrint) {
  EXPECT_TRUE(slurp(test_paths::source() + "/configs/REFERENCE.md") ==
              train_reference() + "\n" + eval_reference())
      << "configs/REFERENCE.md does not match the keys: build both programs and run (cd build/release/bin "
         "&& ./depthroute-train --help-config && echo && ./depthroute-eval --help-config) "
         "> configs/REFERENCE.md";
}

}  // namespace
}  // namespace depthroute::test
