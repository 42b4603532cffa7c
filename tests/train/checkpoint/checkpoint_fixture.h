// A run's parameters and moments without a run: numbers by element of the block, and processes that own parts
// of them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"
#include "tests/train/thread_world.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"
#include "train/checkpoint/saver.h"

namespace depthroute::testing_support {

/// Whole blocks, as one process would have them. Any bits that make a finite number, but zero between
/// parameters.
struct Numbers {
  std::vector<float> parameters, m, v;

  Numbers(const ParameterLayout& layout, uint32_t seed) {
    std::mt19937 random(seed);
    for (std::vector<float>* block : {&parameters, &m, &v}) {
      block->assign(static_cast<size_t>(layout.block_size()), 0.0F);
      for (const Parameter& parameter : layout.all())
        for (int64_t i = 0; i < parameter.numel(); ++i) {
          uint32_t bits = static_cast<uint32_t>(random());
          if ((bits & 0x7f800000U) == 0x7f800000U) bits ^= 0x00800000U;  // else infinite or no number
          std::memcpy(&(*block)[static_cast<size_t>(parameter.offset + i)], &bits, sizeof(bits));
        }
    }
  }
  bool operator==(const Numbers& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(parameters, other.parameters) && same(m, other.m) && same(v, other.v);
  }
};

/// What one process of `size` holds.
class Holder {
 public:
  Holder(const ModelConfig& config, const ParameterLayout& layout, int rank, int size)
      : config_(config),
        layout_(layout),
        partition_(layout, {.rank = rank, .size = size, .pieces = size, .bucket_elements = 1500}),
        parameters_(static_cast<size_t>(partition_.padded_size()), kStale),
        m_(static_cast<size_t>(partition_.shard_size()), kStale),
        v_(m_) {}

  CheckpointTensors tensors() {
    const auto view = [](std::vector<float>& values) {
      return host_tensor(values.data(), {static_cast<int64_t>(values.size())});
    };
    return {config_, layout_, partition_, {Device::cpu, nullptr}, view(parameters_), view(m_), view(v_)};
  }
  void take(const Numbers& numbers) {
    std::fill(m_.begin(), m_.end(), 0.0F);
    std::fill(v_.begin(), v_.end(), 0.0F);
    parameters_ = numbers.parameters;
    parameters_.resize(static_cast<size_t>(partition_.padded_size()));
    for_owned([&](size_t element, size_t at) {
      m_[at] = numbers.m[element];
      v_[at] = numbers.v[element];
    });
  }
  /// What it holds goes to its place in the block. Nothing but zeros may be left over.
  void give(Numbers& numbers) {
    numbers.parameters.assign(parameters_.begin(), parameters_.begin() + layout_.block_size());
    for_owned([&](size_t element, size_t at) {
      numbers.m[element] = m_[at];
      numbers.v[element] = v_[at];
      m_[at] = v_[at] = 0;
    });
    EXPECT_EQ(m_, std::vector<float>(m_.size(), 0.0F)) << "padding";
    EXPECT_EQ(v_, std::vector<float>(v_.size(), 0.0F)) << "padding";
  }
  void spoil() {
    for (std::vector<float>* values : {&parameters_, &m_, &v_})
      std::fill(values->begin(), values->end(), kStale);
  }

 private:
  static constexpr float kStale = -77;
  template <typename Body>
  void for_owned(const Body& body) const {
    for (const OwnedRange& range : partition_.owned_ranges())
      for (int64_t i = range.begin; i < std::min(range.end, layout_.block_size()); ++i)
        body(static_cast<size_t>(i), static_cast<size_t>(range.at + i - range.begin));
  }

  const ModelConfig& config_;
  const ParameterLayout& layout_;
  Partition partition_;
  std::vector<float> parameters_, m_, v_;
};

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    config_.output = folder_ / "run";
    config_.data.train = {folder_ / "tokens.bin"};  // never read
    std::filesystem::create_directories(checkpoints_path(config_.output));
  }

  std::string checkpoint(int64_t step) const {
    return checkpoints_path(config_.output) + "/" + checkpoint_name(step);
  }
  static RunState state_of(int64_t step) { return {.step = step, .tokens = 3 * step, .position = step}; }
  /// `processes` save `numbers` as step `step`.
  std::string save(int processes, int64_t step, const Numbers& numbers) {
    as_processes(processes, [&](World& world) {
      Holder holder(config_.model, layout_, world.rank(), world.size());
      holder.take(numbers);
      CheckpointSaver saver(world, config_, holder.tensors());
      saver.start(state_of(step));
      EXPECT_TRUE(saver.active());
      EXPECT_EQ(saver.commit(), checkpoint(step));
      EXPECT_FALSE(saver.active());
    });
    return checkpoint(step);
  }
  /// What `processes` read, put together.
  Numbers load(int processes, const std::string& folder) {
    Numbers numbers(layout_, 99);
    for (int rank = 0; rank < processes; ++rank) {
      Holder holder(config_.model, layout_, rank, processes);
      load_checkpoint(folder, holder.tensors());
      holder.give(numbers);
    }
    return numbers;
  }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> all;
    for (const CheckpointFolder& found : list_checkpoints(config_.output)) all.push_back(found.step);
    return all;
  }
  /// Nothing is among the checkpoints but these steps and, if there are any, `latest`.
  void expect_only(const std::vector<int64_t>& expected) const {
    EXPECT_EQ(steps(), expected);
    const auto count = std::distance(std::filesystem::directory_iterator(checkpoints_path(config_.output)),
                                     std::filesystem::directory_iterator());
    EXPECT_EQ(count, static_cast<int64_t>(expected.size()) + (expected.empty() ? 0 : 1)) << "leftovers";
  }

  const TempFolder folder_;
  TrainConfig config_ = tiny_config();
  const ParameterLayout layout_{config_.model, make_depth_plan(config_.model)};
  const Numbers first_{layout_, 1}, second_{layout_, 2};
};

}  // namespace depthroute::testing_support
