// A model on the CPU with its memory, for tests: from a golden folder or from a small configuration.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/model_folder.h"
#include "train/model/qwen3.h"
#include "train/model/weights.h"

namespace depthroute {

struct TestModel {
  Arena arena{Device::cpu};
  Stream stream = make_stream(Device::cpu);
  Qwen3 model;

  TestModel(const ModelConfig& config, int64_t micro_batch, int64_t seq_len, bool training)
      : model(config, {.micro_batch = micro_batch, .seq_len = seq_len, .training = training}, arena) {
    arena.allocate();
  }

  static TestModel* load(const std::string& folder_path, int64_t micro_batch, int64_t seq_len,
                         bool training) {
    const ModelFolder folder(folder_path);
    auto* result = new TestModel(folder.config(), micro_batch, seq_len, training);
    load_parameters(result->stream, folder, result->model.layout(), result->model.parameters());
    return result;
  }

  Tensor parameter(const std::string& name) { return model.layout().view(model.parameters(), name); }
  Tensor gradient(const std::string& name) { return model.layout().view(model.gradients(), name); }
  double mean_nll() const {
    double total = 0;
    const Tensor nll = model.nll();
    for (int64_t i = 0; i < nll.numel(); ++i) total += nll.data<float>()[i];
    return total / static_cast<double>(nll.numel());
  }
};

/// Windows [B, T+1] -> inputs and targets, each [B, T].
struct Batch {
  std::vector<int32_t> inputs, targets;
  int64_t batch, seq_len;
  Batch(const std::vector<int32_t>& windows, int64_t batch_size, int64_t length)
      : batch(batch_size), seq_len(length) {
    for (int64_t b = 0; b < batch_size; ++b)
      for (int64_t t = 0; t < length; ++t) {
        inputs.push_back(windows[b * (length + 1) + t]);
        targets.push_back(windows[b * (length + 1) + t + 1]);
      }
  }
  Tensor input_tensor() { return host_tensor(inputs.data(), {batch, seq_len}); }
  Tensor target_tensor() { return host_tensor(targets.data(), {batch, seq_len}); }
};

}  // namespace depthroute
