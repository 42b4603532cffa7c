// Every configuration that may be written down either plans memory that can be counted, and then as many
// bytes as an exact recomputation says, or is refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <random>

#include "configs/base/error.h"
#include "configs/plan_size.h"
#include "configs/read.h"
#include "kernels/arena.h"
#include "kernels/collectives/world.h"
#include "kernels/cuda/device.h"
#include "train/model/qwen3.h"
#include "train/sharding/adamw.h"
#include "train/sharding/gradient_sum.h"
#include "train/sharding/partition.h"

namespace depthroute {
namespace {

__extension__ using Wide = __int128;

/// Between 1 and `most`, all magnitudes alike, the ends more often.
int64_t extent(std::mt19937_64& random, int64_t most) {
  if (random() % 8 == 0) return most;
  const double share = std::uniform_real_distribution<double>(0, 1)(random);
  return std::clamp<int64_t>(static_cast<int64_t>(std::pow(static_cast<double>(most), share)), 1, most);
}

/// A configuration within the ranges of all keys.
std::string random_config(std::mt19937_64& random, Device device) {
  // Wide in few layers or narrow in many: the list of parameters of thousands of layers takes its time.
  const int64_t layers = random() % 4 == 0 ? extent(random, 4096) : extent(random, 32);
  const int64_t kv_heads = extent(random, 4096), heads = kv_heads * extent(random, 4096 / kv_heads);
  const int64_t micro_batch = extent(random, 1'000'000'000);
  return fmt::format(
      "output: o\ndata: {{train: [a], seq_len: {}}}\ndevice: {}\ndeterministic: {}\n"
      "model: {{vocab_size: {}, hidden_size: {}, num_layers: {}, num_heads: {}, num_kv_heads: {}, head_dim: "
      "{}, "
      "intermediate_size: {}, tie_embeddings: {}, residual: {{variant: cumulative, sublayers_per_block: "
      "{}}}}}\n"
      "train: {{steps: 1, global_batch: {}, micro_batch: {}, recompute: {}}}\noptimizer: {{warmup: 0}}\n"
      "distributed: {{shards: 1, bucket_mib: {}}}\n",
      extent(random, 1'000'000'000), to_string(device), random() % 2 == 0, extent(random, int64_t{1} << 24),
      8 * extent(random, 4096), layers, heads, kv_heads, 8 * extent(random, 32),
      8 * extent(random, (1 << 20) / 8), random() % 2 == 0, 2 * div_ceil(layers, 8), micro_batch, micro_batch,
      to_string(values<Recompute>()[random() % 4]), extent(random, 4096));
}

/// What a training step plans, without its batch on the host.
void plan(const TrainConfig& config, Arena& arena) {
  const std::unique_ptr<World> world = make_single_world();
  const std::unique_ptr<Collectives> alone = world->make_collectives(Device::cpu, {});
  const Partition partition(ParameterLayout(config.model, make_depth_plan(config.model)),
                            {.bucket_elements = (config.distributed.bucket_mib << 20) / 4});
  const Qwen3 model(config.model,
                    {.micro_batch = config.train.micro_batch,
                     .seq_len = config.data.seq_len,
                     .training = true,
                     .activations = working_type(arena.device(), config.precision),
                     .recompute = config.train.recompute,
                     .group_reads = GroupReads::where_it_pays,
                     .deterministic = config.deterministic,
                     .block_size = partition.padded_size()},
                    arena);
  const AdamW optimizer(config.optimizer, model.layout(), partition, arena);
  const GradientSum sum(model.layout(), partition, *alone, arena);

  // Exactly once more, from the extents.
  Wide total = 0;
  for (const Tensor& tensor : arena.tensors()) {
    Wide bytes = size_of(tensor.dtype);
    for (const int64_t size : tensor.shape.extents()) {
      ASSERT_GE(size, 0);
      bytes *= size;
    }
    total += (bytes + 255) / 256 * 256;
  }
  ASSERT_TRUE(total == Wide{arena.total_bytes()});
  ASSERT_LE(static_cast<double>(total), plan_bytes_bound(config));
  Wide parameters = 0;
  for (const Parameter& parameter : model.layout().all()) {
    ASSERT_TRUE(parameter.offset >= parameters);
    parameters = Wide{parameter.offset} + parameter.numel();
  }
  ASSERT_TRUE(parameters <= model.layout().block_size());
}

TEST(PlanSize, IsExactOrRefused) {
  std::mt19937_64 random(4);
  int planned = 0, refused = 0;
  for (int i = 0; i < 400; ++i) {
    const Device device = cuda::built() && i % 2 == 1 ? Device::cuda : Device::cpu;
    const std::string text = random_config(random, device);
    std::optional<TrainConfig> config;
    try {
      config = parse_train_config(text, "run.yaml");
    } catch (const ConfigError& error) {
      const std::string said = error.what();
      ASSERT_TRUE(said.find("more than 2^63 bytes") != std::string::npos ||
                  said.find("buckets: raise it") != std::string::npos ||
                  said.find("more tokens than can be counted") != std::string::npos)
          << said << "\n"
          << text;
      ++refused;
      continue;
    }
    Arena arena(device);
    ASSERT_NO_FATAL_FAILURE(plan(*config, arena)) << text;
    ++planned;
  }
  EXPECT_GE(planned, 50);
  EXPECT_GE(refused, 50);
}

// A shape that comes from a model folder is first seen when it is planned: the same sizes, refused there.
TEST(PlanSize, WithoutACheckBeforehandIsRefusedWhileItIsPlanned) {
  std::mt19937_64 random(5);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    const Device device = cuda::built() && i % 2 == 1 ? Device::cuda : Device::cpu;
    TrainConfig config;
    config.model = {.vocab_size = extent(random, int64_t{1} << 24),
                    .hidden_size = 8 * extent(random, 4096),
                    .num_layers = extent(random, 16),
                    .num_heads = 4096,
                    .num_kv_heads = 1024,
                    .head_dim = 8 * extent(random, 32),
                    .intermediate_size = 8 * extent(random, (1 << 20) / 8),
                    .residual = {.num_blocks = 1}};
    config.distributed.bucket_mib = 4096;
    config.deterministic = i % 4 < 2;
    config.train.micro_batch = extent(random, 1'000'000'000);
    config.data.seq_len = extent(random, 1'000'000'000);
    Arena arena(device);
    try {
      ASSERT_NO_FATAL_FAILURE(plan(config, arena));
    } catch (const ConfigError& error) {
      ASSERT_NE(std::string(error.what()).find("more than 2^63 bytes"), std::string::npos);
      ASSERT_GE(plan_bytes_bound(config), 0x1p62);
      ++refused;
    }
  }
  EXPECT_GE(refused, 20);
}

}  // namespace
}  // namespace depthroute
