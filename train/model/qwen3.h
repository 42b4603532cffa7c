// Qwen3 with depth routing: forward and backward over the depth plan, on whichever device the arena is for.
//
// One Qwen3 object holds the weights and the activations of one micro-batch. Typical use:
//   Arena arena(device);
//   Qwen3 model(config, {.micro_batch = 8, .seq_len = 512, .training = true}, arena);   // plans memory
//   arena.allocate();
//   initialize_parameters(model.layout(), seed, bias, model.parameters());              // or load them
//   model.forward(stream, tokens);                                                      // fills states, routing
//   model.backward(stream, targets, 1.0f / total_targets);                              // += gradients(), nll()
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/arena.h"
#include "kernels/ops.h"
#include "train/model/depth_plan.h"
#include "train/model/parameters.h"

namespace depthroute {

/// What an intervention may set at a site (SPEC §5); the default is the clean run. Same kernels either way.
struct SiteControl {
  std::vector<float> offset;   // [n] added to the logits, -inf drops the source; empty: 0
  std::vector<float> scale;    // [n] factor of a_j V_j, not renormalised; empty: 1
  bool learned_logits = true;  // false: query, key norm and bias are ignored, the logits are the offsets alone
};

/// The weights and dots a site kept in the last forward pass.
struct SiteTrace {
  Tensor weights, inv_rms, dots;  // [N,n] f32
  Tensor rstd;                    // [N] f32
};

struct Qwen3Options {
  int64_t micro_batch = 1;  // B, at most; a forward pass may use fewer sequences
  int64_t seq_len = 1;      // T, exactly
  bool training = false;    // keep what backward needs; otherwise layers share one set of activations
};

class Qwen3 {
 public:
  /// Plans parameters, activations and (training) gradients in `arena`, which must outlive the model and be
  /// allocated before anything else is called.
  Qwen3(const ModelConfig& config, const Qwen3Options& options, Arena& arena);
  Qwen3(const Qwen3&) = delete;
  Qwen3& operator=(const Qwen3&) = delete;

  const ModelConfig& config() const { return config_; }
  const DepthPlan& plan() const { return plan_; }
  const ParameterLayout& layout() const { return layout_; }
  const Qwen3Options& options() const { return options_; }
  Device device() const { return parameters_.device; }
  Tensor parameters() const { return parameters_; }  // [layout().block_size()] f32
  Tensor gradients() const { return gradients_; }    // same layout; training only

  /// tokens [B', T] i32 on the device, B' <= micro_batch. `controls`: empty (clean), or one per site of the plan.
  /// `first_site` > 0 reuses states S_0 ... S_{first_site} of the previous forward pass on the same tokens
  /// (training = false only keeps what the plan's sites can still read).
  void forward(Stream stream, const Tensor& tokens, std::span<const SiteControl> controls = {}, int first_site = 0);

  /// nll of the last forward pass: targets [B', T] i32 (-1: ignored). No gradients.
  void loss(Stream stream, const Tensor& targets);
  /// loss() and all gradients of grad_scale * sum(nll): accumulates into gradients(). Training only.
  void backward(Stream stream, const Tensor& targets, float grad_scale);

  Tensor nll() const;           // [B'*T] f32 of the last loss() or backward()
  Tensor final_hidden() const;  // [B'*T, D]: input of the output head, after the final norm
  Tensor head() const;          // [V, D]
  SiteTrace trace(int site) const;
  Tensor state(int index) const;  // S_index, complete

  /// Matrix-product FLOPs per token of one forward+backward at this sequence length (6 per weight that multiplies,
  /// plus causal attention 6 T H K per layer); embeddings and element-wise work are not counted.
  static double train_flops_per_token(const ModelConfig& config, int64_t seq_len);

 private:
  struct Layer;  // qwen3.cpp's business, defined in qwen3_layer.h
  ModelConfig config_;
  DepthPlan plan_;
  ParameterLayout layout_;
  Qwen3Options options_;
  Tensor parameters_, gradients_;
};

}  // namespace depthroute
