#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "train/model/parameters.h"
#include "train/model/qwen3.h"

namespace depthroute {
namespace {

ParameterLayout layout_of(const ModelConfig& config) {
  return ParameterLayout(config, make_depth_plan(config));
}

TEST(Parameters, CountsOfThe06BModelAreThePublishedOnes) {
  ModelConfig config;  // the defaults are Qwen3-0.6B's shape
  config.residual.variant = Variant::additive;
  EXPECT_EQ(layout_of(config).num_parameters(), 596'049'920);
  EXPECT_EQ(layout_of(config).all().size(), 310u);
  config.head_dim = 64;  // the public AttnRes checkpoints
  EXPECT_EQ(layout_of(config).num_parameters(), 507'965'952);
  config.residual.variant = Variant::cumulative;
  EXPECT_EQ(layout_of(config).num_parameters(), 507'965'952 + 114'744);
}

TEST(Parameters, LayoutHasNoOverlapAndDecayFirst) {
  ModelConfig config;
  config.vocab_size = 97;
  config.hidden_size = 24;
  config.num_layers = 3;
  config.num_heads = 3;
  config.num_kv_heads = 1;
  config.head_dim = 10;
  config.intermediate_size = 40;
  config.tie_embeddings = false;
  config.residual.variant = Variant::kimi;
  config.residual.num_blocks = 2;
  const ParameterLayout layout = layout_of(config);
  int64_t end = 0;
  bool decay = true;
  for (const Parameter& p : layout.all()) {
    EXPECT_GE(p.offset, end) << p.name;
    end = p.offset + p.numel();
    EXPECT_FALSE(p.decay && !decay) << p.name << " has decay but stands after one without";
    decay = p.decay;
    EXPECT_EQ(p.decay, p.shape.rank() == 2 && p.name.find("_res_proj") == std::string::npos) << p.name;
  }
  EXPECT_LE(end, layout.block_size());
  EXPECT_EQ(layout.find("model.layers.0.self_attn.k_proj.weight").offset,
            layout.find("model.layers.0.self_attn.q_proj.weight").offset + 30 * 24);
}

TEST(Parameters, InitialisationFollowsTheSpecAndDependsOnSeedAndNameOnly) {
  ModelConfig config;
  config.vocab_size = 1000;
  config.hidden_size = 64;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.intermediate_size = 96;
  config.residual.num_blocks = 2;
  const ParameterLayout two = layout_of(config);
  std::vector<float> a(two.block_size()), b(two.block_size());
  const Tensor block = host_tensor(a.data(), {two.block_size()}),
               again = host_tensor(b.data(), {two.block_size()});
  initialize_parameters(two, 7, 1.5, block);
  initialize_parameters(two, 7, 1.5, again);
  EXPECT_EQ(a, b);
  initialize_parameters(two, 8, 1.5, again);
  EXPECT_NE(a, b);

  const Tensor embedding = two.view(block, "model.embed_tokens.weight");
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < embedding.numel(); ++i) {
    sum += embedding.data<float>()[i];
    squares += std::pow(embedding.data<float>()[i], 2);
  }
  const double count = static_cast<double>(embedding.numel());
  EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.02 * 5 / std::sqrt(2 * count));
  for (float v : {two.view(block, "model.layers.1.mlp_res_bias").data<float>()[0]}) EXPECT_EQ(v, 1.5f);
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(two.view(block, "model.layers.1.attn_res_proj.weight").data<float>()[i], 0.0f);
    EXPECT_EQ(two.view(block, "model.layers.1.attn_res_norm.weight").data<float>()[i], 1.0f);
  }

  config.num_layers = 3;  // a deeper model's shared parameters start the same
  const ParameterLayout three = layout_of(config);
  std::vector<float> c(three.block_size());
  initialize_parameters(three, 7, 1.5, host_tensor(c.data(), {three.block_size()}));
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const Tensor x = two.view(block, name), y = three.view(host_tensor(c.data(), {three.block_size()}), name);
  for (int64_t i = 0; i < x.numel(); ++i) ASSERT_EQ(x.data<float>()[i], y.data<float>()[i]);
}

TEST(Parameters, FlopsPerTokenIsSixPerMultiplyingWeightPlusAttention) {
  ModelConfig config;
  // 0.6B: 440,401,920 weights in matrices of layers, 155,582,464 in the head; attention 6 * 28 * T * 2048.
  EXPECT_DOUBLE_EQ(Qwen3::train_flops_per_token(config, 2048),
                   6.0 * (440'401'920 + 155'582'464) + 6.0 * 28 * 2048 * 2048);
}

}  // namespace
}  // namespace depthroute
