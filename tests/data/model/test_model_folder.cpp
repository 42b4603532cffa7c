#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/model/model_folder.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

ModelConfig tiny(Variant variant, bool tied = true) {
  ModelConfig config{5, 4, 2, 2, 1, 2, 6, 1e4, 1e-6, tied, true, {}};
  config.residual = {variant, 2, 0, 0.0};
  return config;
}

class ModelFolderTest : public testing::Test {
 protected:
  std::string add(const std::string& name, const std::vector<TensorToWrite>& tensors,
                  const ModelConfig& config) const {
    const std::string path = folder_ / name;
    fs::create_directories(path);
    write_model_folder(path, config, tensors);
    return path;
  }
  /// Rewrites a key of config.json; null removes it.
  static void set_key(const std::string& path, const std::string& key, const json& value) {
    json root = json::parse(read_file(path + "/config.json"));
    if (value.is_null())
      root.erase(key);
    else
      root[key] = value;
    write_raw(path + "/config.json", root.dump());
  }

  const TempFolder folder_;
  const std::vector<float> embedding_ = std::vector<float>(20, 0.5f), row_ = {1, 2, 3, 4}, one_ = {7};
};

TEST_F(ModelFolderTest, ReadsWhatWasWrittenInBothPrecisions) {
  for (const bool bf16 : {false, true}) {
    const std::string path =
        add("m", {{"model.embed_tokens.weight", {5, 4}, embedding_, bf16}, {"n", {4}, row_}},
            tiny(Variant::additive));
    const ModelFolder folder(path);
    EXPECT_TRUE(folder.is_plain());
    EXPECT_EQ(folder.config(), [] {
      ModelConfig config = tiny(Variant::additive);
      config.residual = {Variant::additive};
      return config;
    }());
    std::vector<float> out(20);
    folder.read("model.embed_tokens.weight", {5, 4}, out);
    EXPECT_EQ(out, embedding_);
    EXPECT_TRUE(folder.contains("n"));
    EXPECT_FALSE(folder.contains("m"));
    EXPECT_EQ(json::parse(read_file(path + "/config.json")).at("torch_dtype"), bf16 ? "bfloat16" : "float32");
    EXPECT_EQ(SafetensorsFile(path + "/model.safetensors").metadata().at("format"), "pt");
  }
}

TEST_F(ModelFolderTest, ShapesThatDifferByLeadingOnesAreEqualOthersAreNot) {
  const ModelFolder folder(
      add("m", {{"row", {1, 4}, row_}, {"flat", {4}, row_}, {"scalar", {}, one_}, {"one", {1}, one_}},
          tiny(Variant::additive)));
  std::vector<float> out(4), single(1);
  for (const char* name : {"row", "flat"})
    for (const auto& shape : {std::vector<int64_t>{4}, {1, 4}})
      EXPECT_NO_THROW(folder.read(name, shape, out));
  for (const char* name : {"scalar", "one"})
    for (const auto& shape : {std::vector<int64_t>{}, {1}}) EXPECT_NO_THROW(folder.read(name, shape, single));
  for (const auto& shape : {std::vector<int64_t>{2, 2}, {4, 1}}) {
    const std::string text = message_of([&] { folder.read("row", shape, out); });
    EXPECT_TRUE(has(text, "tensor \"row\" has shape [1, 4], but config.json asks for [")) << text;
    EXPECT_TRUE(has(text, folder.path())) << text;
  }
  EXPECT_TRUE(has(message_of([&] { folder.read("absent", {4}, out); }), "tensor \"absent\" is missing"));
}

TEST_F(ModelFolderTest, FinalSiteTellsResetFromCumulative) {
  for (const bool final_site : {false, true}) {
    std::vector<TensorToWrite> tensors = {{"model.layers.0.attn_res_bias", {}, one_}};
    if (final_site) tensors.push_back({"model.final_res_bias", {}, one_});
    const std::string path = add("m", tensors, tiny(Variant::reset));
    set_key(path, "attnres_variant", "kimi");
    EXPECT_EQ(ModelFolder(path).config().residual.variant, Variant::kimi);  // stated
    set_key(path, "attnres_variant", nullptr);
    EXPECT_EQ(ModelFolder(path).config().residual.variant, final_site ? Variant::reset : Variant::cumulative);
    set_key(path, "attnres_mode", "full");
    if (final_site)
      EXPECT_TRUE(has(message_of([&] { ModelFolder folder(path); }), "is ambiguous"));
    else
      EXPECT_EQ(ModelFolder(path).config().sublayers_per_block(), 1);
  }
}

TEST_F(ModelFolderTest, NamesAreComparedWithTheModels) {
  const ModelFolder folder(add("m",
                               {{"a", {4}, row_}, {"b", {4}, row_}, {"lm_head.weight", {5, 4}, embedding_}},
                               tiny(Variant::additive, false)));
  EXPECT_NO_THROW(folder.check_names({"a", "b", "lm_head.weight"}));
  const auto message = [&](const std::vector<std::string>& expected) {
    return message_of([&] { folder.check_names(expected); });
  };
  EXPECT_TRUE(has(message({"a", "b"}),
                  "1 tensor(s) do not belong to the model described by config.json: \"lm_head.weight\""));
  EXPECT_TRUE(has(message({"a", "lm_head.weight"}), "\"b\""));
  EXPECT_TRUE(has(message({"a", "b", "lm_head.weight", "c"}),
                  "1 tensor(s) of the model described by config.json are missing: \"c\""));
  EXPECT_TRUE(
      has(message({"1", "2", "3", "4", "5"}),
          "5 tensor(s) of the model described by config.json are missing: \"1\", \"2\", \"3\" and 2 more"));
}

TEST_F(ModelFolderTest, RedundantHeadOfATiedModelMustEqualTheEmbedding) {
  std::vector<float> other = embedding_;
  const auto check = [&](bool bf16) {
    const std::vector<TensorToWrite> tensors = {{"model.embed_tokens.weight", {5, 4}, embedding_, bf16},
                                                {"lm_head.weight", {5, 4}, other}};
    ModelFolder(add("m", tensors, tiny(Variant::additive))).check_names({"model.embed_tokens.weight"});
  };
  EXPECT_NO_THROW(check(false));
  EXPECT_TRUE(
      has(message_of([&] { check(true); }), "lm_head.weight differs"));  // equal numbers, another dtype
  other[19] = 0.50001f;
  EXPECT_TRUE(
      has(message_of([&] { check(false); }), "lm_head.weight differs from model.embed_tokens.weight"));
}

TEST_F(ModelFolderTest, IncompleteFoldersAreErrors) {
  const std::string path = folder_ / "m";
  const auto message = [&] { return message_of([&] { ModelFolder folder(path); }); };
  EXPECT_TRUE(has(message(), "no config.json"));
  add("m", {}, tiny(Variant::additive));
  fs::remove(path + "/model.safetensors");
  EXPECT_TRUE(has(message(), "neither model.safetensors nor model.safetensors.index.json"));
  write_raw(path + "/model.safetensors", "x");
  EXPECT_TRUE(has(message(), path + "/model.safetensors: 1 bytes are too few"));
  write_raw(path + "/config.json", "{}");
  EXPECT_TRUE(has(message(), path + "/config.json: the key \"model_type\" is missing"));
}

class ShardedModelTest : public ModelFolderTest {
 protected:
  ShardedModelTest() : path_(add("m", {}, tiny(Variant::additive))) {
    fs::remove(path_ + "/model.safetensors");
    const std::vector<TensorToWrite> first = {{"a", {4}, row_}},
                                     second = {{"b", {1}, one_}, {"c", {1}, one_}};
    write_safetensors(path_ + "/model-1.safetensors", first);
    write_safetensors(path_ + "/model-2.safetensors", second);
  }
  void write_index(const json& map) const {
    write_raw(path_ + "/model.safetensors.index.json", json{{"weight_map", map}}.dump());
  }
  std::string message_for(const json& map) const {
    write_index(map);
    return message_of([&] { ModelFolder folder(path_); });
  }
  const std::string path_;
};

TEST_F(ShardedModelTest, IsReadAsOneModel) {
  write_index({{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}, {"c", "model-2.safetensors"}});
  const ModelFolder folder(path_);
  EXPECT_NO_THROW(folder.check_names({"c", "b", "a"}));
  std::vector<float> out(1);
  folder.read("c", {1}, out);
  EXPECT_EQ(out, one_);
}

TEST_F(ShardedModelTest, WhatIsWrittenInPartsIsReadAsOneModel) {
  EXPECT_EQ(model_part_name(0, 1), "model.safetensors");
  EXPECT_EQ(model_part_name(1, 12), "model-00002-of-00012.safetensors");
  const std::string path = add("n", {}, tiny(Variant::additive));
  fs::remove(path + "/" + model_part_name(0, 1));
  const std::vector<TensorToWrite> first = {{"a", {4}, row_}}, second = {{"b", {1}, one_}};
  write_safetensors(path + "/" + model_part_name(0, 2), first, model_metadata());
  write_safetensors(path + "/" + model_part_name(1, 2), second, model_metadata());
  write_raw(path + "/" + kModelIndexName,
            model_index_json({{"a", model_part_name(0, 2)}, {"b", model_part_name(1, 2)}}, 20));
  EXPECT_NO_THROW(ModelFolder(path).check_names({"a", "b"}));
  EXPECT_EQ(json::parse(read_file(path + "/" + kModelIndexName)).at("metadata").at("total_size"), 20);
}

TEST_F(ShardedModelTest, IndexAndPartsMustAgree) {
  const std::string one = "model-1.safetensors", two = "model-2.safetensors";
  EXPECT_TRUE(has(message_for({{"a", two}, {"b", two}, {"c", two}}), "tensor \"a\" is missing"));
  EXPECT_TRUE(has(message_for({{"a", one}, {"b", two}}), "tensor \"c\" is not what"));
  EXPECT_TRUE(has(message_for({{"a", one}, {"b", two}, {"c", two}, {"d", "model-3.safetensors"}}),
                  "model-3.safetensors: cannot open"));
  for (const json& bad : {json("../m/" + one), json("/" + one), json(""), json("./" + one), json(3)})
    EXPECT_TRUE(has(message_for({{"a", bad}}), "which is not a file of this folder")) << bad;
  EXPECT_TRUE(has(message_for(json::array()), "\"weight_map\" is missing or no object"));
  write_raw(path_ + "/model.safetensors.index.json", R"({"weight_map": {"a": "x", "a": "y"}})");
  EXPECT_TRUE(has(message_of([&] { ModelFolder folder(path_); }), "the key \"a\" is given twice"));
}

}  // namespace
}  // namespace depthroute
