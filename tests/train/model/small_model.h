// Small models of every variant with weights that make routing depend on content, and random batches.
#pragma once

#include "configs/base/random.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {

inline ModelConfig small_config(Variant variant) {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 40;
  config.num_layers = 5;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = test::width(10);
  config.intermediate_size = 56;
  config.residual.variant = variant;
  config.residual.num_blocks = 3;
  return config;
}

inline Batch random_batch(int64_t batch, int64_t seq_len, int64_t vocab, uint64_t seed) {
  std::vector<int32_t> windows(batch * (seq_len + 1));
  for (size_t i = 0; i < windows.size(); ++i) windows[i] = static_cast<int32_t>(random_below(seed, i, vocab));
  return Batch(windows, batch, seq_len);
}

/// Weights of a model that has something to say: matrices with a standard deviation of 0.2 (states that
/// restart would be nearly zero otherwise), and queries, key norms and biases moved off their start so that
/// routing depends on content.
inline void randomize(const Qwen3& model, uint64_t seed) {
  initialize_parameters(model.layout(), seed, 0.3, model.parameters());
  for (const Parameter& p : model.layout().all()) {
    const Tensor parameter = model.layout().view(model.parameters(), p.name);
    std::vector<float> values = test::host_values(parameter);
    for (int64_t i = 0; i < p.numel(); ++i) {
      if (p.init == Init::normal)
        values[i] *= 10;
      else
        values[i] += static_cast<float>(0.3 * random_normal_pair(stream_key(seed, p.name), i).first);
    }
    test::set_values(parameter, values);
  }
}
inline void randomize(TestModel& model, uint64_t seed) { randomize(model.model, seed); }

}  // namespace depthroute
