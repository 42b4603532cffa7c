// A model with its memory on the device the tests run on: from a golden folder or from a small configuration.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "data/model/model_folder.h"
#include "tests/kernels/host_tensor.h"
#include "train/model/qwen3.h"
#include "train/model/weights.h"

namespace depthroute {

struct TestModel {
  Arena arena{test::device()};
  Stream stream = test::stream();
  Qwen3 model;

  TestModel(const ModelConfig& config, const Qwen3Options& options) : model(config, options, arena) {
    arena.allocate();
  }
  TestModel(const ModelConfig& config, int64_t micro_batch, int64_t seq_len, bool training)
      : TestModel(config, {.micro_batch = micro_batch, .seq_len = seq_len, .training = training}) {}

  static std::unique_ptr<TestModel> load(const std::string& folder_path, const Qwen3Options& options) {
    const ModelFolder folder(folder_path);
    auto result = std::make_unique<TestModel>(folder.config(), options);
    load_parameters(result->stream, folder, result->model.layout(), result->model.parameters());
    return result;
  }

  Tensor parameter(const std::string& name) const { return model.layout().view(model.parameters(), name); }
  Tensor gradient(const std::string& name) const { return model.layout().view(model.gradients(), name); }
  std::vector<float> nll() const { return test::host_values(model.nll()); }
  double mean_nll() const {
    const std::vector<float> values = nll();
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
};

/// Windows [B, T+1] -> inputs and targets, each [B, T].
struct Batch {
  test::I32 inputs, targets;
  Batch(const std::vector<int32_t>& windows, int64_t batch, int64_t length)
      : inputs({batch, length}), targets({batch, length}) {
    int32_t *input = inputs.data(), *target = targets.data();
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < length; ++t) {
        input[b * length + t] = windows[b * (length + 1) + t];
        target[b * length + t] = windows[b * (length + 1) + t + 1];
      }
  }
  Tensor input_tensor() const { return inputs; }
  Tensor target_tensor() const { return targets; }
};

}  // namespace depthroute
