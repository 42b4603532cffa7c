// The form of checkpoints: written by some number of processes, read by another, and refused when anything is
// wrong with them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "configs/read.h"
#include "data/files.h"
#include "data/model/model_folder.h"
#include "tests/data/whole_manifest.h"
#include "tests/train/checkpoint/checkpoint_fixture.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

class CheckpointForm : public testing_support::CheckpointTest {
 protected:
  std::string refusal(const std::string& folder) {
    return message_of([&] { load(2, folder); });
  }
  /// One more file of moments.
  static void add(const std::string& folder, const std::string& name, const std::vector<int64_t>& shape,
                  bool bf16 = false) {
    int64_t numel = 1;
    for (const int64_t size : shape) numel *= size;
    const std::vector<float> values(static_cast<size_t>(numel), 1.0F);
    const std::vector<TensorToWrite> tensors = {{name, shape, values, bf16}};
    write_safetensors(folder + "/optimizer-extra.safetensors", tensors);
  }
  /// A file of moments without one of its tensors.
  static void drop(const std::string& path, const std::string& name) {
    std::vector<std::vector<float>> values;
    std::vector<TensorToWrite> tensors;
    {
      const SafetensorsFile file(path);
      ASSERT_NE(file.find(name), nullptr);
      values.reserve(file.entries().size());
      for (const TensorEntry& entry : file.entries()) {
        if (entry.name == name) continue;
        values.emplace_back(static_cast<size_t>(entry.numel()));
        file.read_float(entry, values.back());
        tensors.push_back({entry.name, entry.shape, values.back()});
      }
    }
    write_safetensors(path, tensors);
  }
};

TEST_F(CheckpointForm, AnyNumberOfProcessesReadsWhatAnyOtherWrote) {
  int64_t step = 1;
  for (const int writers : {1, 2, 3, 5}) {
    const std::string folder = save(writers, ++step, first_);
    EXPECT_EQ(verify_checkpoint(folder).step, step);
    EXPECT_EQ(nlohmann::json::parse(read_file(folder + "/state.json")).at("processes"), writers);
    for (const int readers : {1, 2, 3, 5})
      EXPECT_TRUE(load(readers, folder) == first_) << writers << " wrote, " << readers << " read";
    std::set<std::string> names;
    for (const ManifestFile& file : verify_manifest(folder).files) names.insert(file.path);
    EXPECT_EQ(names.size(), writers == 1 ? 5U : 2U * writers + 4);
    EXPECT_EQ(names.count("optimizer.safetensors"), writers == 1 ? 1U : 0U);
    EXPECT_EQ(names.count("model/model.safetensors"), writers == 1 ? 1U : 0U);
  }
}

TEST_F(CheckpointForm, WholeParametersKeepTheirShapeAndPartsSayWhichTheyAre) {
  const std::string folder = save(3, 1, first_);
  int64_t whole = 0, parts = 0, elements = 0;
  for (const char* name : {"1", "2", "3"}) {
    const SafetensorsFile file(folder + "/optimizer-0000" + name + "-of-00003.safetensors");
    for (const TensorEntry& entry : file.entries()) {
      elements += entry.numel();
      const size_t bracket = entry.name.find('[');
      const Parameter& parameter = layout_.find(entry.name.substr(2, bracket - 2));
      if (bracket == std::string::npos) {
        ++whole;
        EXPECT_EQ(entry.shape, parameter.shape.extents()) << entry.name;
        continue;
      }
      ++parts;
      int64_t begin = -1, end = -1;
      ASSERT_EQ(std::sscanf(entry.name.c_str() + bracket, "[%ld:%ld]", &begin, &end), 2) << entry.name;
      ASSERT_EQ(entry.shape, std::vector<int64_t>{end - begin});
      std::vector<float> values(static_cast<size_t>(end - begin));
      file.read_float(entry, values);
      const std::vector<float>& block = entry.name[0] == 'm' ? first_.m : first_.v;
      EXPECT_EQ(std::memcmp(values.data(), &block[static_cast<size_t>(parameter.offset + begin)],
                            values.size() * sizeof(float)),
                0)
          << entry.name;
    }
  }
  EXPECT_EQ(elements, 2 * layout_.num_parameters());
  EXPECT_GT(whole, 10);
  EXPECT_GT(parts, 10);
}

TEST_F(CheckpointForm, ItsModelIsAModelFolderByItself) {
  // Blocks of kimi are written by their length: the open AttnRes code, which knows them by number, must not take it for its own.
  ModelConfig written = config_.model;
  written.residual.sublayers_per_block = written.sublayers_per_block();
  written.residual.num_blocks = ResidualConfig().num_blocks;
  for (const int writers : {1, 2, 5}) {
    fs::rename(save(writers, writers, first_) + "/model", folder_ / ("model" + std::to_string(writers)));
    const ModelFolder model(folder_ / ("model" + std::to_string(writers)));
    EXPECT_EQ(model.config(), written);
    std::vector<std::string> names;
    for (const Parameter& parameter : layout_.all()) {
      names.push_back(parameter.name);
      std::vector<float> values(static_cast<size_t>(parameter.numel()));
      model.read(parameter.name, parameter.shape.extents(), values);
      EXPECT_EQ(std::memcmp(values.data(), &first_.parameters[static_cast<size_t>(parameter.offset)],
                            values.size() * sizeof(float)),
                0)
          << parameter.name;
    }
    EXPECT_NO_THROW(model.check_names(names));
    if (writers == 1) continue;
    const auto index = nlohmann::json::parse(read_file(model.path() + "/model.safetensors.index.json"));
    EXPECT_EQ(index.at("metadata").at("total_size"), 4 * layout_.num_parameters());
    EXPECT_EQ(SafetensorsFile(model.path() + "/" + model_part_name(1, writers)).metadata().at("format"),
              "pt");
  }
}

TEST_F(CheckpointForm, RunsOfParametersCoverTheListEvenly) {
  ModelConfig model = config_.model;
  model.num_layers = 7;
  for (const int64_t vocab : {16, 256, 20000}) {
    model.vocab_size = vocab;
    const ParameterLayout layout(model, make_depth_plan(model));
    int64_t largest = 0;
    for (const Parameter& parameter : layout.all()) largest = std::max(largest, parameter.numel());
    for (int processes = 1; processes < 200; ++processes) {
      const std::vector<ParameterRun> runs = parameter_runs(layout, processes);
      EXPECT_EQ(runs.size(), std::min(static_cast<size_t>(processes), layout.all().size()));
      size_t next = 0;
      for (const ParameterRun& run : runs) {
        EXPECT_EQ(run.first, next);
        ASSERT_LT(run.first, run.last);
        next = run.last;
        int64_t size = 0;
        for (size_t i = run.first; i < run.last; ++i) size += layout.all()[i].numel();
        EXPECT_LE(size, layout.num_parameters() / processes + largest);
        EXPECT_EQ(run.elements.begin, layout.all()[run.first].offset);
        EXPECT_EQ(run.elements.end, layout.all()[run.last - 1].offset + layout.all()[run.last - 1].numel());
      }
      EXPECT_EQ(next, layout.all().size());
    }
  }
}

TEST_F(CheckpointForm, GapsOverlapsAndStrangersAreRefused) {
  const std::string folder = save(3, 1, first_), part = folder + "/optimizer-00002-of-00003.safetensors";
  const std::string extra = folder + "/optimizer-extra.safetensors", bytes = read_file(part);
  fs::remove(part);
  std::string text = refusal(folder);
  EXPECT_TRUE(has(text, folder + ": of tensor m.") && has(text, "are missing")) << text;
  write_raw(part, bytes);

  for (const char* moment : {"m", "v"}) {
    // A norm is so small that one process has it whole.
    const std::string name = std::string(moment) + ".model.norm.weight";
    std::string holder;
    for (const char* which : {"1", "2", "3"}) {
      const std::string path = folder + "/optimizer-0000" + which + "-of-00003.safetensors";
      if (SafetensorsFile(path).find(name)) holder = path;
    }
    ASSERT_NE(holder, "");
    const std::string before = read_file(holder);
    drop(holder, name);
    text = refusal(folder);
    EXPECT_TRUE(has(text, "of tensor " + name + " the elements 0 to 32 are missing")) << text;
    add(folder, name + "[0:31]", {31});
    text = refusal(folder);
    EXPECT_TRUE(has(text, "of tensor " + name + " the elements 31 to 32 are missing")) << text;
    add(folder, name + "[1:32]", {31});
    text = refusal(folder);
    EXPECT_TRUE(has(text, "of tensor " + name + " the elements 0 to 1 are missing")) << text;
    add(folder, name, {32});
    EXPECT_NO_THROW(load(2, folder)) << "whole again";
    write_raw(holder, before);
    text = refusal(folder);
    EXPECT_TRUE(has(text, "holds elements that another tensor holds too")) << text;
    EXPECT_TRUE(has(text, name)) << text;
    add(folder, name + "[31:32]", {1});
    EXPECT_TRUE(has(refusal(folder), "holds elements that another"));
    fs::remove(extra);
  }

  const std::string norm = "m.model.norm.weight";
  const std::vector<std::tuple<std::string, std::vector<int64_t>, bool, std::string>> cases = {
      {"m.model.norm.weight", {33}, false, "has another shape"},
      {"m.model.norm.weight", {4, 8}, false, "has another shape"},
      {norm + "[0:16]", {15}, false, "has another shape"},
      {norm + "[0:16]", {4, 4}, false, "has another shape"},
      {norm + "[0:33]", {33}, false, "lies outside this model's 32 elements"},
      {norm + "[16:16]", {0}, false, "lies outside"},
      {norm + "[-1:3]", {4}, false, "lies outside"},
      {norm + "[3:1]", {2}, false, "lies outside"},
      {norm + "[0:16", {16}, false, "is no moment of this model"},
      {norm + "[0:16x]", {16}, false, "is no moment of this model"},
      {norm + "[:16]", {16}, false, "is no moment of this model"},
      {norm + "[0:99999999999999999999]", {16}, false, "is no moment of this model"},
      {norm, {32}, true, "is BF16"},
      {"w.model.norm.weight", {32}, false, "is no moment of this model"},
      {"m.model.layers.9.input_layernorm.weight", {32}, false, "is no moment of this model"},
      {"m.\n", {1}, false, "is no moment of this model"},
      {"m", {1}, false, "is no moment of this model"},
  };
  for (const auto& [name, shape, bf16, part_of_text] : cases) {
    add(folder, name, shape, bf16);
    text = refusal(folder);
    EXPECT_TRUE(has(text, part_of_text)) << name << ": " << text;
    EXPECT_TRUE(has(text, extra)) << text;
  }
  fs::remove(extra);
  EXPECT_TRUE(load(2, folder) == first_);
  for (const char* which : {"1", "2", "3"})
    fs::remove(folder + "/optimizer-0000" + which + "-of-00003.safetensors");
  EXPECT_TRUE(has(refusal(folder), "no optimizer*.safetensors in it"));
}

TEST_F(CheckpointForm, AnyChangedByteAndAnyMissingOrAddedPartIsFound) {
  const std::string folder = save(3, 1, first_);
  const Manifest manifest = verify_manifest(folder);
  for (const ManifestFile& file : manifest.files) {
    const std::string path = folder + "/" + file.path, before = read_file(path);
    std::string changed = before;
    changed[changed.size() / 2] ^= 1;
    write_raw(path, changed);
    EXPECT_TRUE(has(message_of([&] { verify_checkpoint(folder); }), file.path)) << file.path;
    fs::remove(path);
    EXPECT_TRUE(has(message_of([&] { verify_checkpoint(folder); }), file.path + ": missing"));
    write_raw(path, before);
  }
  for (const char* name : {"optimizer.safetensors", "model/model.safetensors"}) {
    fs::copy_file(folder + "/optimizer-00001-of-00003.safetensors", folder + "/" + name);
    EXPECT_TRUE(has(message_of([&] { verify_checkpoint(folder); }), "not listed in manifest.json")) << name;
    fs::remove(folder + "/" + name);
  }
  write_raw(folder + "/model/tokenizer.json", "{}");  // makes the model more useful, and harms nobody
  EXPECT_EQ(verify_checkpoint(folder).step, 1);
}

TEST_F(CheckpointForm, HowSumsAreCutMattersToDeterministicRunsAlone) {
  for (const bool deterministic : {false, true}) {
    config_.deterministic = deterministic;
    config_.train.global_batch = 32;
    const std::string folder = save(2, 1, first_);
    TrainConfig now = config_;
    now.distributed.backend = CollectiveBackend::mpi;
    now.distributed.timeout = 7;
    EXPECT_NO_THROW(refuse_changes(folder, now, {}, "", ""));
    now.distributed.bucket_mib = 3;
    now.distributed.shards = 16;
    if (!deterministic) {
      EXPECT_NO_THROW(refuse_changes(folder, now, {}, "", ""));
      continue;
    }
    const std::string text = message_of<ConfigError>([&] { refuse_changes(folder, now, {}, "", ""); });
    EXPECT_TRUE(has(text, "distributed.shards was 8, is 16")) << text;
    EXPECT_TRUE(has(text, "distributed.bucket_mib was 32, is 3")) << text;
  }
}

}  // namespace
}  // namespace depthroute
