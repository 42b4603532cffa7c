// cuDNN's plans for GPUs that are described, not present. A plan proves that cuDNN recognises the graph as
// attention, that an engine supports these shapes, strides and dtypes on that GPU, that its kernels compile,
// and what workspace they need. It proves nothing about numbers, speed, or repeatable bits; those need a GPU.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <iostream>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "configs/read.h"
#include "kernels/cuda/fused_attention.h"
#include "tests/support/paths.h"

namespace depthroute::cuda {
namespace {

/// Numbers from data sheets and programming guides; cuDNN's choice of engine depends on few of them.
struct Gpu {
  const char* name;
  int sm, multiprocessors, shared_kib;  // shared memory one block may have
  int64_t memory_gib, l2_mib, clock_mhz, memory_clock_mhz;

  std::string properties() const {
    return fmt::format(
        R"({{"deviceName":"{}","cudaDeviceId":0,"deviceVer":{},"driverVer":13000,"multiProcessorCount":{},)"
        R"("maxSharedMemoryPerBlockOptin":{},"totalGlobalMem":{},"l2CacheSize":{},"smClockRateKHz":{},)"
        R"("memClockRateKHz":{},"maxSharedMemoryPerBlock":49152,"reservedSharedMemoryPerBlock":1024,)"
        R"("regsPerBlock":65536,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)"
        R"("maxThreadsPerSM":2048,"warpSize":32,"maxGridSize":[2147483647,65535,65535],)"
        R"("maxBlockSize":[1024,1024,64],"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1}})",
        name, sm * 10, multiprocessors, shared_kib << 10, memory_gib << 30, l2_mib << 20, clock_mhz * 1000,
        memory_clock_mhz * 1000);
  }
};
constexpr Gpu kA100{"A100", 80, 108, 163, 80, 40, 1410, 1593};
constexpr Gpu kH100{"H100", 90, 132, 227, 80, 50, 1980, 2619};
constexpr Gpu kH200{"H200", 90, 132, 227, 141, 50, 1980, 3201};

std::string text(const AttentionShape& s) {
  return fmt::format("{} x {} tokens, {} heads ({} kv) of {}", s.batch, s.seq_len, s.num_heads,
                     s.num_kv_heads, s.head_dim);
}

class FusedAttentionPlans : public testing::Test {
 protected:
  void SetUp() override {
    if (!fused_attention_absent().empty()) GTEST_SKIP() << fused_attention_absent();
    // Later requests for libcuda.so.1 get the library of that name that is already open.
    static void* const driver = dlopen(DEPTHROUTE_NO_DRIVER, RTLD_NOW | RTLD_GLOBAL);
    if (!driver) GTEST_SKIP() << "needs the stand-in for the driver beside the build: " << dlerror();
  }

  static FusedAttentionPlan plan(const Gpu& gpu, const AttentionShape& shape, bool backward,
                                 bool deterministic) {
    return fused_attention_plan(gpu.properties(), gpu.sm, shape, backward, deterministic);
  }

  static void expect_forward(const Gpu& gpu, const AttentionShape& shape) {
    const FusedAttentionPlan forward = plan(gpu, shape, false, false);
    ASSERT_TRUE(forward.available) << gpu.name << ", " << text(shape) << ": " << forward.detail;
    EXPECT_LE(forward.workspace_bytes, fused_attention_workspace_bound(shape, false, false));
  }

  /// Expects a plan whose workspace is within the bound but not far below it: planned memory that is never
  /// used means a smaller batch.
  static void expect_backward(const Gpu& gpu, const AttentionShape& shape, bool deterministic) {
    const std::string what =
        fmt::format("{}, {}{}", gpu.name, text(shape), deterministic ? ", deterministic" : "");
    const FusedAttentionPlan backward = plan(gpu, shape, true, deterministic);
    ASSERT_TRUE(backward.available) << what << ": " << backward.detail;
    const int64_t bound = fused_attention_workspace_bound(shape, deterministic, true);
    std::cout << fmt::format("{}: {} wants {:.2f} MiB, bound {:.2f}\n", what, backward.detail,
                             backward.workspace_bytes / 1048576.0, bound / 1048576.0);
    EXPECT_LE(backward.workspace_bytes, bound) << what;
    if (shape.seq_len % 128 == 0) {
      EXPECT_LE(bound, 2 * backward.workspace_bytes) << what;
    }
  }

  static void expect_plans(const Gpu& gpu, const AttentionShape& shape) {
    expect_forward(gpu, shape);
    expect_backward(gpu, shape, false);
    if (gpu.sm >= 90) expect_backward(gpu, shape, true);
  }
};

/// The attention of every training preset, with its micro-batch.
std::vector<AttentionShape> preset_shapes() {
  std::set<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>> seen;
  std::vector<AttentionShape> shapes;
  for (const char* name : {"qwen3-0.6b-cumulative", "qwen3-0.6b-kimi", "qwen3-0.6b-additive",
                           "open-attnres-0.6b", "attnres-100m", "demo"}) {
    const TrainConfig config = read_train_config(test_paths::source() + "/configs/" + name + ".yaml");
    const ModelConfig& m = config.model;
    const AttentionShape s{config.train.micro_batch, config.data.seq_len, m.num_heads, m.num_kv_heads,
                           m.head_dim};
    if (seen.insert({s.batch, s.seq_len, s.num_heads, s.num_kv_heads, s.head_dim}).second)
      shapes.push_back(s);
  }
  return shapes;
}

TEST_F(FusedAttentionPlans, PresetsAsTheyAre) {
  for (const AttentionShape& shape : preset_shapes()) expect_plans(kH200, shape);
}

TEST_F(FusedAttentionPlans, PresetsFromOneToSixteenSequences) {
  for (AttentionShape shape : preset_shapes())
    for (const int64_t batch : {1, 16}) {
      shape.batch = batch;
      expect_plans(kA100, shape);
      expect_plans(kH100, shape);
    }
}

// Lengths that are not multiples of a tile, one head per kv head, many heads per kv head, narrow heads.
TEST_F(FusedAttentionPlans, OddShapes) {
  for (const AttentionShape& shape : {AttentionShape{3, 77, 4, 2, 64}, AttentionShape{2, 1000, 16, 8, 128},
                                      AttentionShape{2, 20, 6, 6, 16}, AttentionShape{1, 301, 8, 1, 96}}) {
    expect_plans(kA100, shape);
    expect_plans(kH100, shape);
  }
}

TEST_F(FusedAttentionPlans, RefusalsSayWhy) {
  const AttentionShape shape{2, 128, 4, 2, 64};
  const AttentionShape one_token{2, 1, 4, 2, 64}, wide{2, 128, 4, 2, 256}, unaligned{1, 77, 3, 3, 64};
  const FusedAttentionPlan refusals[] = {
      plan(kA100, shape, true, true),  // cuDNN has a plan, but does not promise the same bits
      plan(kA100, wide, true, false),       plan(kH100, one_token, true, false),
      plan(kH100, unaligned, false, false), fused_attention_plan("no JSON", 90, shape, false, false),
  };
  for (const FusedAttentionPlan& refusal : refusals) {
    EXPECT_FALSE(refusal.available);
    EXPECT_FALSE(refusal.detail.empty());
    EXPECT_EQ(refusal.detail.find('\n'), std::string::npos) << refusal.detail;
  }
  EXPECT_NE(refusals[0].detail.find("deterministic"), std::string::npos) << refusals[0].detail;
}

// The stand-in driver has no devices, so planning for a GPU uses the bound.
TEST_F(FusedAttentionPlans, WithoutADevice) {
  const AttentionShape shape{8, 2048, 16, 8, 128};
  for (const bool deterministic : {false, true})
    for (const bool training : {false, true}) {
      EXPECT_NE(fused_attention_refusal(shape, DType::bf16, deterministic, training), "");
      EXPECT_EQ(fused_attention_workspace(shape, deterministic, training),
                fused_attention_workspace_bound(shape, deterministic, training));
      EXPECT_GT(fused_attention_workspace(shape, deterministic, training), 0);
    }
}

}  // namespace
}  // namespace depthroute::cuda
