// What kernels/cost counts, against the bytes that the kernels touch when they are executed: every launch of
// whole training steps in its order, and ops that only evaluation calls. Equal to the byte; matrix products
// and copies, which are libraries' and the runtime's, are not executed kernels and are left out.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cost/scope.h"
#include "tests/cuda_on_host/access_log.h"
#include "tests/kernels/host_tensor.h"
#include "train/step.h"

namespace depthroute {
namespace {

using cuda::emulator::Accesses;
using cuda::emulator::AccessLog;

struct Memory {
  const std::byte* begin = nullptr;
  size_t bytes = 0;
};
Memory memory_of(const Arena& arena) {
  const std::byte *begin = nullptr, *end = nullptr;
  for (const Tensor& tensor : arena.tensors()) {
    const auto* from = static_cast<const std::byte*>(tensor.pointer);
    if (!begin || from < begin) begin = from;
    if (!end || from + tensor.bytes() > end) end = from + tensor.bytes();
  }
  return {begin, static_cast<size_t>(end - begin)};
}

std::vector<Accesses> executed(const Memory& memory, const std::function<void()>& body) {
  synchronize(test::stream());  // what was launched before may run late
  const AccessLog log(memory.begin, memory.bytes);
  body();
  synchronize(test::stream());
  return log.launches();
}

cost::Log counted(const std::function<void()>& body) {
  cost::Log log;
  const cost::Scope scope(log, {.library_attention = false});
  body();
  std::erase_if(log, [](const cost::KernelCost& kernel) { return kernel.library; });
  return log;
}

/// "" if every launch touches what was counted for it, otherwise the first difference.
std::string difference(const cost::Log& counts, const std::vector<Accesses>& launches) {
  for (size_t i = 0; i < std::min(counts.size(), launches.size()); ++i) {
    const cost::KernelCost& count = counts[i];
    const Accesses& launch = launches[i];
    if (count.launches != 1) return fmt::format("{}: {} launches in one", count.name, count.launches);
    if (count.read != launch.read || count.written != launch.written)
      return fmt::format("launch {}, {}: {} bytes read and {} written, counted as {} and {}", i, count.name,
                         launch.read, launch.written, count.read, count.written);
  }
  if (counts.size() == launches.size()) return "";
  return fmt::format("{} launches, counted as {}", launches.size(), counts.size());
}

// ---- training

struct Case {
  const char* name;
  Variant variant;
  Precision precision;
  Recompute recompute = Recompute::none;
  int64_t hidden_size = 40, num_layers = 8;
  bool deterministic = false, overlap = false, qk_norm = true;
};

TrainConfig config_of(const Case& c) {
  TrainConfig config;
  config.precision = c.precision;
  config.deterministic = c.deterministic;
  config.model = {.vocab_size = 101,
                  .hidden_size = c.hidden_size,
                  .num_layers = c.num_layers,
                  .num_heads = 4,
                  .num_kv_heads = 2,
                  .head_dim = 24,
                  .intermediate_size = 56,
                  .tie_embeddings = c.variant != Variant::reset,
                  .qk_norm = c.qk_norm,
                  .residual = {.variant = c.variant, .num_blocks = 4}};
  config.data.seq_len = 19;
  config.train = {
      .steps = 3, .global_batch = 4, .micro_batch = 2, .recompute = c.recompute, .overlap = c.overlap};
  config.distributed.shards = 2;
  config.optimizer.warmup = 1;
  return config;
}

/// No token occurs twice in a micro-batch.
void fill_batch(int64_t first, int64_t /*count*/, std::span<int32_t> tokens, std::span<int32_t> targets) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>((static_cast<size_t>(first) + 5 * i) % 101);
    targets[i] = static_cast<int32_t>((3 * i + 1) % 101);
  }
}

class TrainingCosts : public testing::TestWithParam<Case> {};

TEST_P(TrainingCosts, AreWhatTheKernelsTouch) {
  setenv("CUDA_ON_HOST_STREAMS", "eager", 1);  // launches in the order of calls, on whatever stream
  TrainingStep step(config_of(GetParam()), Device::cuda);
  step.allocate();
  initialize_parameters(step.layout(), 5, 0.25, step.model().parameters());
  ASSERT_TRUE(step.run(1, fill_batch).applied);
  const std::vector<Accesses> launches =
      executed(memory_of(step.arena()), [&] { ASSERT_TRUE(step.run(2, fill_batch).applied); });
  cost::Log counts = counted([&] { step.run(3, fill_batch); });
  EXPECT_GT(launches.size(), 80U);
  EXPECT_EQ(difference(counts, launches), "");

  // The comparison sees a single byte, and a launch too many.
  cost::Log wrong = counts;
  ++wrong[wrong.size() / 2].read;
  EXPECT_NE(difference(wrong, launches), "");
  wrong = counts;
  --wrong.back().written;
  EXPECT_NE(difference(wrong, launches), "");
  counts.pop_back();
  EXPECT_NE(difference(counts, launches), "");
  unsetenv("CUDA_ON_HOST_STREAMS");
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TrainingCosts,
    testing::Values(
        Case{"additive", Variant::additive, Precision::bf16},
        Case{"additive_f32", Variant::additive, Precision::fp32},
        Case{"cumulative", Variant::cumulative, Precision::bf16},
        Case{"cumulative_f32", Variant::cumulative, Precision::fp32},
        Case{"cumulative_act", Variant::cumulative, Precision::bf16, Recompute::act},
        Case{"cumulative_norms", Variant::cumulative, Precision::bf16, Recompute::norms},
        Case{"cumulative_layer", Variant::cumulative, Precision::bf16, Recompute::layer},
        Case{"cumulative_slices", Variant::cumulative, Precision::bf16, Recompute::none, 40, 8, true},
        Case{"cumulative_overlap", Variant::cumulative, Precision::bf16, Recompute::act, 40, 8, false, true},
        Case{"without_qk_norm", Variant::cumulative, Precision::bf16, Recompute::norms, 40, 8, false, false,
             false},
        Case{"llama_f32", Variant::additive, Precision::fp32, Recompute::none, 40, 3, false, false, false},
        Case{"reset", Variant::reset, Precision::bf16}, Case{"kimi", Variant::kimi, Precision::bf16},
        Case{"wide", Variant::cumulative, Precision::bf16, Recompute::none, 1032, 3}),
    [](const auto& test) { return std::string(test.param.name); });

// ---- ops that training does not call

/// Tensors on the device, taken one after another from one block; zero unless filled.
class OpCosts : public testing::Test {
 protected:
  OpCosts() : block_(static_cast<std::byte*>(device_allocate(Device::cuda, kBytes))) {}
  ~OpCosts() override { device_free(Device::cuda, block_, kBytes); }

  Tensor take(Shape shape, DType dtype = DType::f32) {
    const Tensor tensor{block_ + used_, shape, dtype, Device::cuda};
    used_ += round_up(tensor.bytes(), int64_t{256});
    EXPECT_LE(used_, kBytes);
    return tensor;
  }
  Tensor filled(Shape shape, float value) {
    const Tensor tensor = take(shape);
    ops::fill(stream_, tensor, value);
    return tensor;
  }
  Tensor ones(int64_t count) {
    const std::vector<int32_t> values(static_cast<size_t>(count), 1);
    const Tensor tensor = take({count}, DType::i32);
    ops::copy(stream_, host_tensor(values.data(), {count}), tensor);
    return tensor;
  }
  void expect_equal(const std::function<void()>& op) {
    const std::vector<Accesses> launches = executed({block_, kBytes}, op);
    EXPECT_FALSE(launches.empty());
    EXPECT_EQ(difference(counted(op), launches), "");
  }

  static constexpr int64_t kBytes = int64_t{16} << 20;
  static constexpr int64_t kTokens = 36, kColumns = 48, kVocab = 101, kSources = 3;
  const Stream stream_ = test::stream();
  std::byte* const block_;
  int64_t used_ = 0;
};

constexpr DType kTypes[] = {DType::f32, DType::bf16};

TEST_F(OpCosts, RmsNorm) {
  const Tensor weight = take({kColumns}), dweight = take({kColumns}), rstd = take({kTokens});
  const Tensor scratch = take({ops::reduction_workspace(Device::cuda, kColumns)});
  for (const DType act : kTypes) {
    const Shape shape{kTokens, kColumns};
    const Tensor x = take(shape, act), y = take(shape, act), dx = take(shape, act);
    expect_equal([&] { ops::rms_norm_forward(stream_, x, weight, 1e-6F, y, rstd); });
    expect_equal([&] { ops::rms_norm_backward(stream_, y, x, weight, rstd, dx, dweight, scratch); });
  }
}

// As training calls it, on q and k as columns of qkv.
TEST_F(OpCosts, RopeWithoutNorms) {
  const ops::AttentionShape shape{2, 19, 4, 2, 24};
  const Tensor rope = take({shape.seq_len, shape.head_dim});
  for (const DType act : kTypes) {
    const Tensor qkv = take({shape.tokens(), shape.qkv_cols()}, act);
    const Tensor q = take({shape.tokens(), shape.q_cols()}, act),
                 k = take({shape.tokens(), shape.kv_cols()}, act);
    expect_equal([&] { ops::qk_norm_rope_forward(stream_, shape, qkv, {}, {}, 1e-6F, rope, q, k); });
    expect_equal(
        [&] { ops::qk_norm_rope_backward(stream_, shape, q, k, qkv, {}, {}, 1e-6F, rope, qkv, {}, {}, {}); });
  }
}

TEST_F(OpCosts, WholeTensors) {
  const Tensor wide = take({kTokens, kColumns}), narrow = take({kTokens, kColumns}, DType::bf16);
  expect_equal([&] { ops::fill(stream_, wide, 1); });
  expect_equal([&] { ops::cast(stream_, wide, narrow); });
  expect_equal([&] { ops::cast(stream_, narrow, wide); });
  const Tensor mask = ones(kTokens), to = take({kTokens, kColumns});
  expect_equal([&] { ops::select_rows(stream_, mask, wide, to); });
  // In one chunk of rows, and in several.
  const Tensor sums = take({kColumns}, DType::f64), tall = take({700, kColumns}, DType::bf16);
  const Tensor scratch = take({ops::column_sums_workspace(Device::cuda, kColumns)});
  expect_equal([&] { ops::column_sums(stream_, wide, mask, sums, scratch); });
  expect_equal([&] { ops::column_sums(stream_, tall, Tensor{}, sums, scratch); });
}

TEST_F(OpCosts, ComparedRows) {
  const Tensor targets = ones(kTokens), nll = take({2 * kTokens}), kl = take({2 * kTokens});
  const Tensor flipped = take({2 * kTokens}, DType::i32), hit = take({2 * kTokens}, DType::i32);
  for (const DType act : kTypes) {
    const Tensor clean = take({kTokens, kColumns}, act), hidden = take({2 * kTokens, kColumns}, act);
    const Tensor head = take({kVocab, kColumns}, act);
    const Tensor scratch = take({ops::cross_entropy_compare_workspace(Device::cuda, act, kTokens, kVocab)});
    expect_equal([&] {
      ops::cross_entropy_compare(stream_, clean, hidden, head, targets, nll, kl, flipped, hit, scratch);
    });
    const Tensor loss_scratch = take({ops::cross_entropy_workspace(Device::cuda, act, kTokens, kVocab)});
    expect_equal([&] {
      ops::cross_entropy(stream_, clean, head, targets, 0, nll.slice(0, kTokens), {}, {}, loss_scratch);
    });
  }
}

// Reads of evaluation: dropped, replaced, scaled and repeated sources, and given weights.
TEST_F(OpCosts, InterventionsOnReads) {
  constexpr float kDropped = -std::numeric_limits<float>::infinity();
  for (const DType act : kTypes) {
    const auto state = [&] { return take({kTokens, kColumns}, act); };
    std::vector<Tensor> sources = {state(), take({kTokens / 3, kColumns}, act), state()};
    ops::RoutingSite site;
    site.sources = sources;
    site.query = take({kColumns});
    site.key_norm = take({kColumns});
    site.recency_bias = take({1});
    site.norm_weight = take({kColumns});
    site.weights = take({kTokens, kSources});
    site.inv_rms = take({kTokens, kSources});
    site.dots = take({kTokens, kSources});
    site.rstd = take({kTokens});
    const Tensor output = state(), add = state();
    const auto read = [&] { ops::routing_forward(stream_, site, add, output); };
    expect_equal(read);
    const std::vector<float> first = {kDropped, 0, 1}, last = {0, 1, kDropped}, scale = {1, 2, 0.5F};
    site.offset = first;
    site.scale = scale;
    expect_equal(read);
    site.offset = last;
    expect_equal([&] { ops::routing_forward(stream_, site, Tensor{}, output); });
    site.given = filled({kTokens / 2, kSources}, 0.25F);
    expect_equal(read);
    site.given = {};
    site.offset = {};
    sources[1] = sources[0];
    expect_equal(read);
    site.weights = filled({kTokens, kSources}, 0.25F);
    const Tensor norms = take({kTokens, kSources}), projections = take({kTokens, kSources});
    const Tensor cosines = take({kTokens, kSources});
    expect_equal([&] { ops::routing_shares(stream_, site, norms, projections, cosines); });
  }
}

// Reads in two phases, in one launch for sites without interventions.
TEST_F(OpCosts, FinishedBlocksAndMerges) {
  constexpr float kDropped = -std::numeric_limits<float>::infinity();
  const std::vector<float> drops_first = {kDropped, 0, 0}, drops_last = {0, 0, kDropped};
  for (const DType act : kTypes) {
    for (const int64_t columns : {kColumns, int64_t{1032}}) {
      const auto state = [&] { return take({kTokens, columns}, act); };
      const std::vector<Tensor> finished = {state(), state()};
      std::vector<std::vector<Tensor>> sources;
      std::vector<ops::RoutingSite> sites;
      for (int g = 0; g < 3; ++g) sources.push_back({finished[0], finished[1], state()});
      for (int g = 0; g < 3; ++g) {
        ops::RoutingSite& site = sites.emplace_back();
        site.sources = sources[g];
        site.query = take({columns});
        site.key_norm = take({columns});
        site.recency_bias = take({1});
        site.norm_weight = take({columns});
        site.weights = take({kTokens, kSources});
        site.inv_rms = take({kTokens, kSources});
        site.dots = take({kTokens, kSources});
        site.rstd = take({kTokens});
        site.inverse_norm = g == 0 ? take({columns}) : Tensor{};
        site.partial = state();
        site.partial_lse = take({kTokens});
      }
      const Tensor add = state(), output = state();
      expect_equal([&] { ops::routing_read_finished(stream_, sites); });
      expect_equal([&] { ops::routing_forward(stream_, sites[0], add, output); });
      sites[1].offset = drops_first;
      sites[2].offset = drops_last;
      expect_equal([&] { ops::routing_read_finished(stream_, sites); });
      expect_equal([&] { ops::routing_forward(stream_, sites[2], Tensor{}, output); });
      expect_equal([&] { ops::routing_forward(stream_, sites[2], add, output); });
    }
  }
}

// Where rows are as wide as a model's, bytes are what memory moves: few pieces of 32 bytes are used in part.
TEST_F(OpCosts, AreBytesOfWholeSectors) {
  constexpr int64_t kWide = 1024, kMany = 9;
  std::vector<Tensor> sources;
  for (int64_t j = 0; j < kMany; ++j) sources.push_back(take({kTokens, kWide}, DType::bf16));
  ops::RoutingSite site;
  site.sources = sources;
  site.query = take({kWide});
  site.key_norm = take({kWide});
  site.norm_weight = take({kWide});
  site.weights = take({kTokens, kMany});
  site.inv_rms = take({kTokens, kMany});
  site.dots = take({kTokens, kMany});
  site.rstd = take({kTokens});
  const Tensor output = take({kTokens, kWide}, DType::bf16);
  const std::vector<Accesses> launches =
      executed({block_, kBytes}, [&] { ops::routing_forward(stream_, site, Tensor{}, output); });
  ASSERT_EQ(launches.size(), 1U);
  const auto bytes = static_cast<double>(launches[0].read + launches[0].written);
  EXPECT_LT(32 * static_cast<double>(launches[0].sectors), 1.005 * bytes);
}

}  // namespace
}  // namespace depthroute
