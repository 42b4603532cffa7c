#include "tests/train/tiny_run.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "configs/read.h"
#include "data/files.h"
#include "data/model/safetensors.h"
#include "data/tokens/token_stream.h"
#include "tests/kernels/host_tensor.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute::testing_support {

namespace fs = std::filesystem;

TrainConfig tiny_config() {
  TrainConfig config;
  config.seed = 7;
  config.device = parse_or_fail<DeviceChoice>("device", to_string(test::device()));
  config.precision = Precision::fp32;
  config.model = {.vocab_size = 256,
                  .hidden_size = 32,
                  .num_layers = 2,
                  .num_heads = 2,
                  .num_kv_heads = 1,
                  .head_dim = 16,
                  .intermediate_size = 48,
                  .residual = {.variant = Variant::kimi, .num_blocks = 2}};
  config.data.seq_len = 32;
  config.train = {.steps = 40, .global_batch = 4, .micro_batch = 2};
  config.optimizer.lr = 3e-3;
  config.optimizer.lr_min = 3e-4;
  config.optimizer.warmup = 10;
  config.validate = {.every = 25, .sequences = 5};
  config.checkpoint.every = 7;
  config.log.every = 1;
  return config;
}

void TinyRun::SetUp() {
  std::mt19937 random(3);
  // 65 samples of 32 tokens, most of them in one shard, two across borders.
  for (const auto& [name, count] : {std::pair{"a", 701}, {"b", 3}, {"c", 1395}, {"val", 170}}) {
    ShardWriter writer(path(name) + ".bin", 256);
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    int32_t token = 0;
    for (int32_t& out : tokens) out = token = static_cast<int32_t>((token * 5 + random() % 7) % 256);
    writer.append(tokens);
    writer.close();
  }
}

std::string TinyRun::write_config(const std::string& output, int64_t steps) {
  TrainConfig config = tiny_config();
  config.output = path(output);
  config.data.train = {path("a.bin"), path("b.bin"), path("c.bin")};
  config.data.val = {path("val.bin")};
  config.train.steps = steps;
  config.optimizer.warmup = std::min<int64_t>(config.optimizer.warmup, steps / 2);
  const std::string file = path(output + ".yaml");
  std::ofstream(file) << to_yaml(config);
  return file;
}

Result TinyRun::train(const std::string& config, std::vector<std::string> more) {
  more.insert(more.begin(), config);
  return run_program_to_end("depthroute-train", more, folder_);
}

std::string TinyRun::checkpoint(const std::string& output, int64_t step) const {
  return checkpoints_path(path(output)) + "/" + checkpoint_name(step);
}

std::vector<nlohmann::json> TinyRun::metrics(const std::string& output) const {
  std::vector<nlohmann::json> lines;
  std::ifstream file(metrics_path(path(output)));
  for (std::string line; std::getline(file, line);) {
    lines.push_back(nlohmann::json::parse(line));
    lines.back().erase("tokens_per_s");
    lines.back().erase("val_seconds");
  }
  return lines;
}

void TinyRun::expect_same_run(const std::string& a, const std::string& b, int64_t step) const {
  for (const char* file : {"model/model.safetensors", "optimizer.safetensors", "state.json"})
    EXPECT_TRUE(read_file(checkpoint(a, step) + "/" + file) == read_file(checkpoint(b, step) + "/" + file))
        << file << " differs";
  const std::vector<nlohmann::json> lines_a = metrics(a), lines_b = metrics(b);
  ASSERT_EQ(lines_a.size(), lines_b.size());
  for (size_t i = 0; i < lines_a.size(); ++i) EXPECT_EQ(lines_a[i], lines_b[i]);
}

void TinyRun::flip_byte(const std::string& file, int64_t offset_from_end) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-offset_from_end, std::ios::end);
  const int byte = stream.peek();
  stream.seekp(-offset_from_end, std::ios::end);
  stream.put(static_cast<char>(byte ^ 1));
  ASSERT_TRUE(stream.good()) << file;
}

void TinyRun::poison(const std::string& file, const std::string& tensor, float value) {
  int64_t at = 0;
  {
    const SafetensorsFile tensors(file);
    const TensorEntry* entry = tensors.find(tensor);
    ASSERT_NE(entry, nullptr);
    const auto header = static_cast<int64_t>(fs::file_size(file)) - tensors.entries().back().end;
    at = header + entry->begin;
  }
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(at);
  stream.write(reinterpret_cast<const char*>(&value), sizeof(value));
  ASSERT_TRUE(stream.good());
}

bool TinyRun::exists(const std::string& file) { return fs::exists(file); }

::testing::AssertionResult is_one_line(const std::string& text) {
  if (text.size() > 1 && text.find('\n') == text.size() - 1) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "not one line: '" << text << "'";
}

}  // namespace depthroute::testing_support
