#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/model/model_folder.h"
#include "data/model/other_code.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using nlohmann::json;

/// A plain Qwen3 as transformers 4.x writes it.
json plain() {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"model_type", "qwen3"},
          {"vocab_size", 97},
          {"hidden_size", 32},
          {"num_hidden_layers", 6},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 10},
          {"intermediate_size", 48},
          {"rope_theta", 1000000},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", true},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"rope_scaling", nullptr},
          {"sliding_window", nullptr},
          {"use_sliding_window", false},
          {"torch_dtype", "bfloat16"}};
}
json routed() {
  json root = plain();
  root["model_type"] = "qwen3_attnres";
  root["attnres_mode"] = "block";
  root["attnres_num_blocks"] = 3;
  root["attnres_recency_bias_init"] = 3.0;
  root["attnres_gate_type"] = "bias";
  return root;
}
/// A Llama, likewise.
json llama() {
  json root = plain();
  for (const char* key : {"head_dim", "sliding_window", "use_sliding_window"}) root.erase(key);
  root["architectures"] = {"LlamaForCausalLM"};
  root["model_type"] = "llama";
  root["mlp_bias"] = false;
  root["pretraining_tp"] = 1;
  return root;
}
json with(json root, const std::string& key, const json& value) {
  root[key] = value;
  return root;
}
json without(json root, const std::string& key) {
  root.erase(key);
  return root;
}
ParsedModelConfig parse(const json& root) { return model_config_from_json(root.dump(), "m/config.json"); }

TEST(ModelConfigJson, PlainQwen3IsRead) {
  const ParsedModelConfig parsed = parse(plain());
  EXPECT_TRUE(parsed.variant_stated);
  ModelConfig expected{97, 32, 6, 4, 2, 10, 48, 1e6, 1e-6, true, true, {}};
  expected.residual.variant = Variant::additive;
  EXPECT_EQ(parsed.config, expected);
}

TEST(ModelConfigJson, SpellingOfTransformers5MeansTheSame) {
  json root = without(without(without(plain(), "rope_theta"), "torch_dtype"), "rope_scaling");
  root["rope_parameters"] = {{"rope_theta", 1000000.0}, {"rope_type", "default"}};
  root["dtype"] = "bfloat16";
  root["layer_types"] = json::array({"full_attention", "full_attention"});
  EXPECT_EQ(parse(root).config, parse(plain()).config);
  root["rope_theta"] = 1e6;  // both, agreeing
  EXPECT_EQ(parse(root).config, parse(plain()).config);
}

TEST(ModelConfigJson, LlamaIsReadInBothSpellings) {
  ModelConfig expected{97, 32, 6, 4, 2, 8 /*hidden / heads*/, 48, 1e6, 1e-6, true, false, {}};
  expected.residual.variant = Variant::additive;
  EXPECT_EQ(parse(llama()).config, expected);
  json root = without(without(without(llama(), "rope_theta"), "torch_dtype"), "rope_scaling");
  root["rope_parameters"] = {{"rope_theta", 1000000.0}, {"rope_type", "default"}};
  root["dtype"] = "bfloat16";
  EXPECT_EQ(parse(root).config, expected);
  expected.head_dim = 10;
  EXPECT_EQ(parse(with(root, "head_dim", 10)).config, expected);
}

TEST(ModelConfigJson, UnsupportedLlamasAreRefusedNamingTheKey) {
  const std::tuple<const char*, json, const char*> cases[] = {
      {"attention_bias", true, "biases are not supported"},
      {"mlp_bias", true, "biases are not supported"},
      {"mlp_bias", 0, "must be true or false"},
      {"pretraining_tp", 2, "only 1 is supported"},
      {"hidden_act", "gelu", "only silu"},
      {"sliding_window", 4096, "sliding-window"},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}, "only plain RoPE"},
      {"rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 1e6}}, "only plain RoPE"},
      {"layer_types", {"sliding_attention"}, "only full_attention"},
      {"quantization_config", {{"bits", 4}}, "quantised"},
      {"attnres_num_blocks", 3, "must be qwen3_attnres"},
  };
  for (const auto& [key, value, part] : cases) {
    const std::string text = message_of([&, k = key, v = value] { parse(with(llama(), k, v)); });
    EXPECT_TRUE(has(text, part)) << text;
    EXPECT_EQ(text.rfind("m/config.json: ", 0), 0u) << text;
  }
  EXPECT_TRUE(has(message_of([&] { parse(with(llama(), "hidden_size", 33)); }), "\"head_dim\" is missing"));
}

TEST(ModelConfigJson, OpenAttnResKeysAreRead) {
  const ParsedModelConfig parsed = parse(routed());
  EXPECT_FALSE(parsed.variant_stated);
  EXPECT_EQ(parsed.config.residual, (ResidualConfig{Variant::cumulative, 3, 0, 3.0}));
  const ParsedModelConfig full = parse(with(routed(), "attnres_mode", "full"));
  EXPECT_EQ(full.config.sublayers_per_block(), 1);
  json legacy = without(without(routed(), "attnres_mode"), "attnres_gate_type");
  legacy["attnres_init_bias"] = 10.0;  // removed by the open code before use
  legacy["attnres_gate_init"] = 0.5;
  legacy["attnres_use_null_source"] = false;
  EXPECT_EQ(parse(legacy).config, parsed.config);
  EXPECT_EQ(parse(without(routed(), "head_dim")).config.head_dim,
            8);  // hidden / heads, as the open code means it
}

TEST(ModelConfigJson, OurKeysAreRead) {
  json root = with(routed(), "attnres_variant", "kimi");
  root["attnres_sublayers_per_block"] = 3;
  root.erase("attnres_num_blocks");
  const ParsedModelConfig parsed = parse(root);
  EXPECT_TRUE(parsed.variant_stated);
  EXPECT_EQ(parsed.config.residual.variant, Variant::kimi);
  EXPECT_EQ(parsed.config.sublayers_per_block(), 3);
}

TEST(ModelConfigJson, RequiredKeysAreRequired) {
  for (const char* key : {"model_type", "vocab_size", "hidden_size", "num_hidden_layers",
                          "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
                          "rope_theta", "rms_norm_eps", "tie_word_embeddings"}) {
    const std::string expected = "m/config.json: the key \"" + std::string(key) + "\" is missing";
    EXPECT_TRUE(has(message_of([&] { parse(without(plain(), key)); }), expected)) << key;
    EXPECT_TRUE(has(message_of([&] { parse(with(plain(), key, nullptr)); }), expected)) << key;
  }
  EXPECT_TRUE(has(message_of([&] { parse(without(routed(), "attnres_num_blocks")); }), "attnres_num_blocks"));
}

TEST(ModelConfigJson, WrongTypesAndImpossibleShapesAreErrors) {
  const std::pair<const char*, json> cases[] = {{"vocab_size", "97"},
                                                {"vocab_size", 97.5},
                                                {"hidden_size", -32},
                                                {"hidden_size", 1e30},
                                                {"num_hidden_layers", 0},
                                                {"num_attention_heads", json::array()},
                                                {"num_key_value_heads", 3},
                                                {"head_dim", 7},
                                                {"rope_theta", "1e6"},
                                                {"rope_theta", -1},
                                                {"rms_norm_eps", true},
                                                {"tie_word_embeddings", 1},
                                                {"model_type", 3},
                                                {"attnres_variant", "sum"},
                                                {"attnres_variant", 1},
                                                {"attnres_num_blocks", 0},
                                                {"attnres_sublayers_per_block", -1},
                                                {"attnres_recency_bias_init", "3"}};
  for (const auto& [key, value] : cases) {
    const std::string text = message_of([&, k = key, v = value] { parse(with(routed(), k, v)); });
    EXPECT_EQ(text.rfind("m/config.json: ", 0), 0u) << text;
  }
}

// Whatever changes the numbers and cannot be computed here must not be ignored.
TEST(ModelConfigJson, UnsupportedModelsAreRefusedNamingTheKey) {
  const std::tuple<const char*, json, const char*> cases[] = {
      {"model_type", "mistral", "only qwen3, qwen3_attnres and llama"},
      {"model_type", "llama", "must be qwen3_attnres"},
      {"attnres_qk_norm", "no", "must be true or false"},
      {"hidden_act", "gelu", "only silu"},
      {"attention_bias", true, "biases are not supported"},
      {"attention_dropout", 0.1, "dropout"},
      {"partial_rotary_factor", 0.5, "full rotation"},
      {"quantization_config", {{"bits", 4}}, "quantised"},
      {"layer_types", {"full_attention", "sliding_attention"}, "only full_attention"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, "only plain RoPE"},
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}, "RoPE"},
      {"rope_scaling", {{"factor", 4.0}}, "holds \"factor\""},
      {"rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 1e6}}, "only plain RoPE"},
      {"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}, "full rotation"},
      {"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}, "holds \"full_attention\""},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}, "rope_parameters says 500000"},
      {"rope_parameters", "none", "must be an object"},
      {"attnres_mode", "delta_block", "only block and full"},
      {"attnres_gate_type", "sigmoid_scalar", "only the gate type bias"},
      {"attnres_use_null_source", true, "not supported"},
      {"attnres_num_heads", 8, "not supported"},
  };
  for (const auto& [key, value, part] : cases) {
    const std::string text = message_of([&, k = key, v = value] { parse(with(routed(), k, v)); });
    EXPECT_TRUE(has(text, part)) << text;
    EXPECT_TRUE(has(text, key)) << text;
  }
  json window = with(plain(), "use_sliding_window", true);
  EXPECT_NO_THROW(parse(window));  // no window given: full attention
  window["sliding_window"] = 4096;
  EXPECT_TRUE(has(message_of([&] { parse(window); }), "sliding-window attention is not supported"));
  EXPECT_NO_THROW(parse(with(window, "use_sliding_window", false)));
  json contradiction = with(routed(), "attnres_mode", "full");
  contradiction["attnres_sublayers_per_block"] = 4;
  EXPECT_TRUE(has(message_of([&] { parse(contradiction); }), "contradicts"));
  EXPECT_TRUE(
      has(message_of([&] { parse(with(without(routed(), "head_dim"), "hidden_size", 33)); }), "head_dim"));
}

TEST(ModelConfigJson, KeyGivenTwiceAndBrokenJsonAreErrors) {
  const std::string text = plain().dump();
  const auto message = [](const std::string& broken) {
    return message_of([&] { model_config_from_json(broken, "c.json"); });
  };
  EXPECT_TRUE(has(message("{\"head_dim\": 64, " + text.substr(1)), "the key \"head_dim\" is given twice"));
  for (size_t size = 0; size < text.size(); ++size)
    ASSERT_TRUE(has(message(text.substr(0, size)), "c.json: not valid JSON")) << size;
}

TEST(ModelConfigJson, WrittenConfigurationsReadBack) {
  for (const Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi})
    for (const int64_t blocks : {1, 3, 4, 8})
      for (const int64_t sublayers : {0, 1, 2, 3, 4, 12}) {
        ModelConfig config{97, 32,          6,    4,     2,    10,
                           48, 1234567.891, 1e-5, false, true, {variant, blocks, sublayers, 0.1}};
        if (variant == Variant::additive) config.residual = {variant};
        const ParsedModelConfig parsed = model_config_from_json(model_config_to_json(config), "written");
        EXPECT_TRUE(parsed.variant_stated);
        EXPECT_EQ(parsed.config.sublayers_per_block(), config.sublayers_per_block());
        ModelConfig same = parsed.config;
        same.residual.num_blocks = config.residual.num_blocks;  // may be rewritten for the open code
        if (!why_not(Form::open_attnres, config).empty())       // written by sublayers alone
          same.residual.sublayers_per_block = config.residual.sublayers_per_block;
        EXPECT_EQ(same, config);
        if (sublayers == 0 && variant != Variant::kimi) {
          EXPECT_EQ(parsed.config, config);
        }
      }
}

// transformers computes the plain one as Llama. The open code would build q and k norms, so it must not find what
// it needs: it raises without a number of blocks.
TEST(ModelConfigJson, ModelsWithoutQkNormReadBackAndTheOpenCodeRefusesThem) {
  ModelConfig config{97, 32, 6, 4, 2, 10, 48, 1e6, 1e-5, false, false, {Variant::additive}};
  const json plain = json::parse(model_config_to_json(config));
  EXPECT_EQ(plain.at("architectures"), json::array({"LlamaForCausalLM"}));
  EXPECT_EQ(plain.at("model_type"), "llama");
  EXPECT_EQ(parse(plain).config, config);
  for (const Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi})
    for (const int64_t sublayers : {0, 1, 2, 3, 12}) {
      config.residual = {variant, 3, sublayers, 0.1};
      const json written = json::parse(model_config_to_json(config));
      EXPECT_TRUE(written.at("attnres_num_blocks").is_null());
      EXPECT_EQ(written.at("attnres_mode"), "block");
      const ParsedModelConfig parsed = parse(written);
      EXPECT_TRUE(parsed.variant_stated);
      EXPECT_EQ(parsed.config.sublayers_per_block(), config.sublayers_per_block());
      ModelConfig same = parsed.config;
      same.residual = config.residual;
      EXPECT_EQ(same, config);
      EXPECT_EQ(parsed.config.residual.variant, variant);
    }
}

// The open code counts layers per block as ceil(L / num_blocks) and knows no other key.
TEST(ModelConfigJson, OpenCodeFindsTheSameBlocks) {
  for (const int64_t layers : {4, 6, 28})
    for (int64_t sublayers = 2; sublayers <= 2 * layers; sublayers += 2) {
      ModelConfig config;
      config.num_layers = layers;
      config.residual = {Variant::cumulative, 8, sublayers, 0};
      if (!config.problem().empty()) continue;
      const json root = json::parse(model_config_to_json(config));
      int64_t possible = 0;
      for (int64_t blocks = 1; blocks <= layers; ++blocks)
        possible += 2 * ((layers + blocks - 1) / blocks) == sublayers;
      if (possible == 0) continue;
      const int64_t blocks = root.at("attnres_num_blocks");
      EXPECT_EQ(2 * ((layers + blocks - 1) / blocks), sublayers) << layers << " layers";
      EXPECT_EQ(root.at("attnres_mode"), "block");
    }
  ModelConfig full;
  full.residual = {Variant::cumulative, 8, 1, 0};
  EXPECT_EQ(json::parse(model_config_to_json(full)).at("attnres_mode"), "full");
}

// The open code divides by the number of blocks and raises without one. It knows no key of ours, so whatever it
// would compute otherwise must have none: kimi, odd blocks, a block per sublayer with a final site, and sizes that no
// number of blocks gives (10 sublayers of 12).
TEST(ModelConfigJson, OpenCodeRefusesWhatItCannotCompute) {
  for (const Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi})
    for (const int64_t sublayers : {0, 1, 2, 3, 5, 6, 10, 12}) {
      ModelConfig config{97, 32, 6, 4, 2, 10, 48, 1e6, 1e-6, true, true, {variant, 3, sublayers, 0}};
      const bool full = variant == Variant::cumulative && sublayers == 1;
      const bool possible =
          full || (variant != Variant::kimi && config.sublayers_per_block() % 2 == 0 && sublayers != 10);
      const json written = json::parse(model_config_to_json(config));
      const std::string where = fmt::format("{} S = {}", to_string(variant), sublayers);
      EXPECT_EQ(written.at("attnres_num_blocks").is_null(), !possible) << where;
      EXPECT_EQ(why_not(Form::open_attnres, config).empty(), possible) << where;
      EXPECT_EQ(parse(written).config.sublayers_per_block(), config.sublayers_per_block()) << where;
      if (possible) {
        EXPECT_EQ(written.at("attnres_mode"), full ? "full" : "block") << where;
      }
    }
}

TEST(ModelConfigJson, KeptKeysAreWritten) {
  json root = plain();
  root["max_position_embeddings"] = 2048;
  root["bos_token_id"] = nullptr;
  root["eos_token_id"] = {151645, 151643};
  root["pad_token_id"] = 151643;
  const KeptKeys keys = kept_keys_from_json(root.dump(), "m/config.json");
  const json written = json::parse(model_config_to_json(parse(root).config, false, keys));
  EXPECT_EQ(kept_keys_from_json(written.dump(), "written"), keys);
  EXPECT_EQ(written.at("eos_token_id"), root.at("eos_token_id"));
  EXPECT_FALSE(json::parse(model_config_to_json(parse(plain()).config)).contains("max_position_embeddings"));
  for (const auto& [key, value] : {std::pair<const char*, json>{"max_position_embeddings", 0},
                                   {"max_position_embeddings", "long"},
                                   {"bos_token_id", json::array({1})},
                                   {"eos_token_id", json::array({"</s>"})},
                                   {"pad_token_id", 1.5}})
    EXPECT_TRUE(has(message_of([&, k = key, v = value] {
                      kept_keys_from_json(with(root, k, v).dump(), "m/config.json");
                    }),
                    fmt::format("m/config.json: \"{}\" is ", key)));
}

TEST(ModelConfigJson, GoldenConfigurationsKeepTheirKeysWhenWritten) {
  for (const char* name : {"additive", "cumulative", "cumulative_full", "kimi", "kimi_full", "reset",
                           "cumulative_no_qk_norm", "llama"}) {
    const std::string text = read_file(test_paths::golden() + "/" + name + "/config.json");
    const json golden = json::parse(text);
    const json written = json::parse(model_config_to_json(model_config_from_json(text, name).config, false,
                                                          kept_keys_from_json(text, name)));
    for (const auto& [key, value] : golden.items()) {
      // The open code has no kimi.
      if (std::string(name).starts_with("kimi") && key == "attnres_num_blocks") continue;
      // With one sublayer per block the open code's mode is "full", and no number of blocks means the same.
      if (std::string(name) == "cumulative_full" && key == "attnres_mode") continue;
      EXPECT_EQ(written.at(key), value) << name << " " << key;
    }
  }
}

}  // namespace
}  // namespace depthroute
