// depthroute-convert through its command line: models of other programs come in, ours go out, and nothing changes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"
#include "tests/tolerances.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing_support::Result;

constexpr const char* kGoldenCases[] = {"additive", "cumulative", "cumulative_full",       "reset",
                                        "kimi",     "kimi_full",  "cumulative_no_qk_norm", "llama"};
constexpr const char* kForeignCases[] = {"qwen3",    "qwen3_bf16_shards", "llama_f16",
                                         "fla_full", "fla_block",         "fla_plain"};

class Convert : public testing::Test {
 protected:
  static std::string golden(const std::string& name) { return test_paths::golden() + "/" + name; }
  static std::string foreign(const std::string& name) {
    return test_paths::source() + "/tests/interop/golden/" + name;
  }
  Result run(const std::vector<std::string>& arguments) const {
    return testing_support::run_program_to_end("depthroute-convert", arguments, folder_.path());
  }
  void succeed(const std::vector<std::string>& arguments) const {
    const Result result = run(arguments);
    ASSERT_EQ(result.status, 0) << result.err;
  }
  /// Fails with status 2, one line that holds `message`, and no output.
  void refuse(const std::vector<std::string>& arguments, const std::string& message) const {
    const Result result = run(arguments);
    EXPECT_EQ(result.status, 2) << message;
    EXPECT_TRUE(has(result.err, message)) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "refused"));
  }
  void expect_equal(const std::string& one, const std::string& other, bool weights_only = true) const {
    std::vector<std::string> arguments = {"diff", one, other};
    if (weights_only) arguments.push_back("--weights");
    const Result result = run(arguments);
    EXPECT_EQ(result.status, 0) << one << " | " << other << "\n" << result.out << result.err;
  }
  /// A copy of a folder, with a key of its config.json changed; null removes it.
  std::string changed(const std::string& source, const std::string& key, const json& value) const {
    const std::string copy = folder_ / "changed";
    fs::remove_all(copy);
    fs::copy(source, copy, fs::copy_options::recursive);
    json root = json::parse(read_file(copy + "/config.json"));
    if (value.is_null())
      root.erase(key);
    else
      root[key] = value;
    write_raw(copy + "/config.json", root.dump());
    return copy;
  }
  static json config_of(const std::string& folder) { return json::parse(read_file(folder + "/config.json")); }

  const TempFolder folder_;
};

// What another program computed from its own folder, this one computes from the imported folder.
TEST_F(Convert, ForeignModelsComputeWhatTheyDidThere) {
  for (const std::string name : kForeignCases) {
    const std::string imported = folder_ / name;
    succeed({"import", foreign(name), "--output", imported});
    const json expected = json::parse(read_file(foreign(name) + "/expected.json"));
    const auto windows = expected.at("tokens").get<std::vector<std::vector<int32_t>>>();
    const auto nll = expected.at("nll").get<std::vector<std::vector<double>>>();
    const auto batch = static_cast<int64_t>(windows.size()), length = static_cast<int64_t>(nll[0].size());
    std::vector<int32_t> flat;
    for (const auto& window : windows) flat.insert(flat.end(), window.begin(), window.end());
    const Batch tokens(flat, batch, length);
    const auto model =
        TestModel::load(imported, {.micro_batch = batch, .seq_len = length, .training = false});
    model->model.forward(model->stream, tokens.input_tensor());
    model->model.loss(model->stream, tokens.target_tensor());
    const std::vector<float> ours = model->nll();
    for (int64_t i = 0; i < batch * length; ++i)
      EXPECT_NEAR(ours[i], nll[i / length][i % length], tolerance::kInteropNll) << name << " token " << i;
  }
}

TEST_F(Convert, RoundTripsKeepEveryBit) {
  for (const std::string name : kForeignCases) {
    const std::string imported = folder_ / (name + ".in"), back = folder_ / (name + ".back");
    succeed({"import", foreign(name), "--output", imported, "--max-shard-size", "20KB"});
    expect_equal(foreign(name), imported);
    const bool fla = name.starts_with("fla");
    succeed({"export", imported, "--output", back, "--format", fla ? "fla" : "transformers"});
    expect_equal(foreign(name), back);
    if (name.ends_with("f16")) continue;  // F16 is stored as F32
    // The same tensors under their own names, in the same dtype.
    if (fs::exists(foreign(name) + "/model.safetensors")) {
      const SafetensorsFile before(foreign(name) + "/model.safetensors"), after(back + "/model.safetensors");
      for (const TensorEntry& entry : before.entries()) {
        if (entry.name == "lm_head.weight" && config_of(back).at("tie_word_embeddings") == true) continue;
        const TensorEntry* found = after.find(entry.name);
        ASSERT_NE(found, nullptr) << name << " " << entry.name;
        EXPECT_EQ(found->shape, entry.shape) << name << " " << entry.name;
        EXPECT_TRUE(std::ranges::equal(before.bytes(entry), after.bytes(*found)))
            << name << " " << entry.name;
      }
    }
  }
}

TEST_F(Convert, EveryVariantGoesOutAndComesBack) {
  for (const std::string name : kGoldenCases) {
    const std::string out = folder_ / (name + ".out"), back = folder_ / (name + ".back"),
                      again = folder_ / (name + ".again");
    succeed({"export", golden(name), "--output", out, "--format", "depthroute", "--max-shard-size", "50KB"});
    EXPECT_TRUE(fs::exists(out + "/modeling_depthroute.py"));
    EXPECT_TRUE(fs::exists(out + "/model.safetensors.index.json"));
    expect_equal(golden(name), out);
    succeed({"import", out, "--output", back});
    EXPECT_FALSE(fs::exists(back + "/modeling_depthroute.py"));
    succeed({"import", back, "--output", again});
    expect_equal(back, again, false);
    ModelConfig before = ModelFolder(golden(name)).config(), after = ModelFolder(back).config();
    EXPECT_EQ(before.sublayers_per_block(), after.sublayers_per_block());
    before.residual.num_blocks = after.residual.num_blocks;
    before.residual.sublayers_per_block = after.residual.sublayers_per_block;
    EXPECT_EQ(before, after) << name;
  }
}

TEST_F(Convert, Bf16IsRoundedOnceAndThenExact) {
  const std::string bf16 = folder_ / "bf16", f32 = folder_ / "f32", again = folder_ / "again";
  succeed({"export", golden("reset"), "--output", bf16, "--dtype", "bf16"});
  EXPECT_EQ(config_of(bf16).at("torch_dtype"), "bfloat16");
  const Result rounded = run({"diff", golden("reset"), bf16, "--weights"});
  EXPECT_EQ(rounded.status, 1) << rounded.err;
  EXPECT_TRUE(has(rounded.out, "tensors compared")) << rounded.out;
  succeed({"import", bf16, "--output", f32, "--dtype", "f32"});
  expect_equal(bf16, f32);
  EXPECT_EQ(run({"diff", bf16, f32}).status, 1);  // another dtype
  succeed({"export", f32, "--output", again, "--dtype", "bf16"});
  expect_equal(bf16, again, false);
}

TEST_F(Convert, CompanionsTravelWhole) {
  const std::string source = changed(golden("additive"), "eos_token_id", {5, 7});
  const std::map<std::string, std::string> files = {
      {"tokenizer.json", "{\"a\": \"\xc3\xa9\"}"}, {"tokenizer_config.json", "{}"},
      {"special_tokens_map.json", "{}"},           {"merges.txt", std::string("a b\n\0c", 6)},
      {"chat_template.jinja", "{{ x }}"},          {"generation_config.json", "{\"eos_token_id\": [5]}"}};
  for (const auto& [name, text] : files) write_raw(source + "/" + name, text);
  write_raw(source + "/notes.txt", "mine");
  const std::string imported = folder_ / "in", out = folder_ / "out";
  succeed({"import", source, "--output", imported, "--max-position-embeddings", "77"});
  const Result result = run({"export", imported, "--output", out, "--format", "depthroute"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");  // with a tokenizer there is nothing to warn of
  for (const auto& [name, text] : files) EXPECT_EQ(read_file(out + "/" + name), text) << name;
  EXPECT_FALSE(fs::exists(out + "/notes.txt"));
  EXPECT_EQ(config_of(out).at("eos_token_id"), json::array({5, 7}));
  EXPECT_EQ(config_of(out).at("max_position_embeddings"), 77);
  EXPECT_TRUE(has(run({"export", golden("kimi"), "--output", folder_ / "bare"}).err,
                  "warning: " + golden("kimi") + ": no tokenizer files travel along"));
}

TEST_F(Convert, WrappingStoresWhatEvalsWrapComputes) {
  std::string biases;
  std::vector<double> values;
  for (int site = 0; site < 12; ++site) {
    values.push_back(2.7 + site);
    biases += fmt::format("{}{}", site > 0 ? "," : "", values.back());
  }
  for (const std::string name : {"additive", "llama"})
    for (const bool per_site : {false, true}) {
      if (per_site && name == "llama") continue;  // 6 sites
      const std::string wrapped = folder_ / (name + (per_site ? "2" : "1"));
      succeed({"wrap", golden(name), "--output", wrapped, "--recency-bias", per_site ? biases : "30",
               "--sublayers-per-block", "3"});
      const ModelFolder plain(golden(name)), folder(wrapped);
      EXPECT_EQ(folder.config().residual, (ResidualConfig{Variant::cumulative, 8, 3, per_site ? 2.7 : 30.0}));
      const ParameterLayout layout(folder.config(), make_depth_plan(folder.config()));
      const Stream stream = make_stream(Device::cpu);
      test::F32 one({layout.block_size()}), other({layout.block_size()});
      load_parameters(stream, folder, layout, one);
      load_wrapped_parameters(stream, plain, layout, per_site ? values : std::vector<double>{30}, other);
      EXPECT_EQ(parameters_checksum(stream, layout, one), parameters_checksum(stream, layout, other)) << name;
    }
  refuse({"wrap", golden("additive"), "--output", folder_ / "refused", "--recency-bias", "1,2"},
         "--recency-bias: 2 values, but the wrapped model has 12 sites: give one value or 12");
  refuse({"wrap", golden("reset"), "--output", folder_ / "refused"}, "only a plain model can be wrapped");
  refuse({"wrap", golden("additive"), "--output", folder_ / "refused", "--num-blocks", "0"},
         "residual.num_blocks = 0 is outside");
}

TEST_F(Convert, WhatAnotherProgramCannotComputeIsRefusedWithTheReason) {
  const auto out = [&](const std::string& model, const std::string& format, const std::string& message) {
    refuse({"export", model, "--output", folder_ / "refused", "--format", format}, message);
  };
  out(golden("kimi"), "transformers", "cannot be exported as transformers: its variant is kimi");
  out(golden("kimi"), "open-attnres", "cannot be exported as open-attnres: it has no kimi");
  out(golden("additive"), "open-attnres", "a plain model has no routing");
  out(golden("cumulative_no_qk_norm"), "open-attnres", "it normalises q and k, and this model does not");
  out(changed(golden("cumulative"), "attnres_sublayers_per_block", 3), "open-attnres",
      "no number of blocks gives 3 sublayers per block in 6 layers there");
  out(golden("reset"), "fla", "its AttnRes is kimi, and this model's variant is reset");
  out(golden("kimi"), "fla", "it normalises q and k with eps 1e-05, and rms_norm_eps is 1e-06");
  out(changed(golden("kimi"), "rms_norm_eps", 1e-5), "fla", "it has no recency biases, and model.");
  out(foreign("qwen3"), "fla", "its head_dim is hidden_size / num_heads, and 24 / 4 is not head_dim = 10");
  out(golden("kimi"), "gguf", "--format: gguf is none of transformers, depthroute, open-attnres, fla");
  const auto in = [&](const std::string& key, const json& value, const std::string& message) {
    refuse({"import", changed(foreign("fla_block"), key, value), "--output", folder_ / "refused"}, message);
  };
  in("attnres_block_size", 3, "\"attnres_block_size\" is 3: must be 1 or even");
  in("qkv_bias", true, "projections with biases are not supported");
  in("window_size", 128, "sliding-window attention is not supported");
  in("qk_norm", true, "is missing");
  in("num_heads", 5, "hidden_size = 24 is not a multiple of it");
  in("intermediate_size", nullptr, "has shape [40, 24], but config.json asks for [256, 24]");
  in("norm_eps", nullptr, "the key \"norm_eps\" is missing");
  in("model_type", "mamba", "\"model_type\" is ");
  refuse({"import", folder_ / "nowhere", "--output", folder_ / "refused"}, "does not exist");
}

TEST_F(Convert, OutputIsWholeOrAsItWas) {
  const std::string out = folder_ / "out";
  succeed({"import", golden("reset"), "--output", out});
  const auto stays = [&](const std::vector<std::string>& more, const std::string& message) {
    std::vector<std::string> arguments = {"import", golden("kimi"), "--output", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    refuse(arguments, message);
    expect_equal(golden("reset"), out);
  };
  stays({}, "already holds config.json; choose another --output, or replace it with --overwrite");
  stays({"--max-shard-size", "5 parsecs"}, "--max-shard-size: 5 parsecs is not a size");
  write_raw(out + "/notes.txt", "mine");
  stays({"--overwrite"}, "holds notes.txt, which is no part of a model folder");
  fs::remove(out + "/notes.txt");
  succeed({"import", golden("kimi"), "--output", out, "--overwrite"});
  expect_equal(golden("kimi"), out);
  refuse({"import", out, "--output", out, "--overwrite"}, "is the folder that is read");
}

TEST_F(Convert, InspectSaysWhatItIs) {
  const Result text = run({"inspect", foreign("fla_full")});
  EXPECT_EQ(text.status, 0) << text.err;
  for (const char* part : {"flash-linear-attention", "variant kimi", "sublayers_per_block 1",
                           "export transformers no: its variant is kimi", "export fla          yes"})
    EXPECT_TRUE(has(text.out, part)) << part << "\n" << text.out;
  const Result result = run({"inspect", foreign("qwen3_bf16_shards"), "--json"});
  const json root = json::parse(result.out);
  EXPECT_EQ(root.at("form"), "Qwen3");
  EXPECT_EQ(root.at("shape").at("head_dim"), 6);
  EXPECT_EQ(root.at("dtypes").size(), 1u);
  EXPECT_EQ(root.at("dtypes").at("BF16"), 47);
  EXPECT_EQ(root.at("parameters").at("routing"), 0);
  EXPECT_EQ(root.at("companions").at("tokenizer"), false);
  EXPECT_EQ(root.at("export").at("transformers"), true);
  refuse({"inspect", folder_.path()}, "neither a model folder");
}

TEST_F(Convert, DiffNamesWhatDiffers) {
  const Result result = run({"diff", golden("cumulative"), golden("reset")});
  EXPECT_EQ(result.status, 1);
  for (const char* part :
       {"config.json attnres_variant: \"cumulative\" | \"reset\"", "model.final_res_proj.weight: only in ",
        "values differ, by at most", "different\n"})
    EXPECT_TRUE(has(result.out, part)) << part << "\n" << result.out;
  EXPECT_EQ(run({"diff", golden("reset"), golden("reset")}).out,
            "107 tensors compared, 0 with different values\nequal\n");
  refuse({"diff", golden("reset"), folder_ / "nowhere"}, "does not exist");
  refuse({"diff", golden("reset")}, "OTHER is required; see --help");
}

}  // namespace
}  // namespace depthroute
