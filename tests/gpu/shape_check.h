// Loss and gradients of one training pass at a shape too large for float64 loops: on a device in bf16 against
// the CPU in float32, and the same sequences as one micro-batch or as many.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "configs/train_config.h"
#include "kernels/device.h"
#include "train/model/parameters.h"

namespace depthroute {

/// One figure and what it may be at most.
struct ShapeFigure {
  std::string name;
  double figure = 0;
  double bound = 0;
  std::string where;
  /// NaN is outside every bound.
  bool passed() const { return figure <= bound; }
};

/// Loss and gradients of `sequences` sequences of random tokens.
struct ShapePass {
  double loss = 0;               // nats per token
  std::vector<float> gradients;  // of the mean loss; the layout's block
};

class ShapeCheck {
 public:
  /// Draws the weights of `config.model` from config.seed, and tokens for `sequences` sequences of
  /// config.data.seq_len. Pseudo-queries are drawn too, where training starts with zeros, so that reads are not
  /// all alike. Where `device` computes in bf16, matrices are rounded to bf16, for every device alike.
  ShapeCheck(const TrainConfig& config, Device device, int64_t sequences);

  /// Computes `sequences`, at most the constructor's, in micro-batches of `micro_batch`, which divides it.
  /// Allocates the model's memory on `device` and frees it. Throws SystemError if there is too little.
  ShapePass run(Device device, int64_t sequences, int64_t micro_batch) const;

  /// One sequence on the device and in float32 on the CPU: the first loss against ln V, and loss, gradient norm
  /// and the direction of every parameter's gradient against the CPU's.
  std::vector<ShapeFigure> against_cpu() const;
  /// All sequences as one micro-batch, and one by one.
  std::vector<ShapeFigure> against_single_sequences() const;

  /// Compares `ours` with `reference` as against_cpu() does.
  std::vector<ShapeFigure> compare(const ShapePass& ours, const ShapePass& reference) const;

  /// May be changed between runs; the layout's block.
  std::span<float> parameters() { return parameters_; }
  const ParameterLayout& layout() const { return layout_; }

 private:
  TrainConfig config_;
  Device device_;
  DType act_;
  int64_t sequences_;
  ParameterLayout layout_;
  std::vector<float> parameters_;
  std::vector<int32_t> tokens_, targets_;  // [sequences, seq_len]
};

}  // namespace depthroute
