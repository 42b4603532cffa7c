// Parameters by Hugging Face name, laid out in one block so that the optimizer and collectives see one array.
// Projections that are multiplied together (q|k|v, gate|up) are adjacent: one GEMM reads them as one matrix.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "configs/model_config.h"
#include "kernels/arena.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// How a fresh parameter is initialized (train/model/SPEC.md §2).
enum class Init : uint8_t { normal, ones, zeros, recency_bias };

struct Parameter {
  std::string name;    // Hugging Face's
  Shape shape;         // as stored in files: rank 2 for matrices and *_res_proj, 1 for norms, 0 for biases
  int64_t offset = 0;  // in elements from the start of the block
  Init init = Init::normal;
  bool decay = false;  // weight decay (train/model/SPEC.md §3): matrices and the embedding only
  int64_t numel() const { return shape.numel(); }
};

/// The parameters of a configuration: order, offsets and total size. Allocates no tensors.
class ParameterLayout {
 public:
  ParameterLayout() = default;
  ParameterLayout(const ModelConfig& config, const DepthPlan& plan);

  const std::vector<Parameter>& all() const { return parameters_; }
  /// A name that does not exist is a programming error.
  const Parameter& find(const std::string& name) const;
  bool contains(const std::string& name) const;
  /// Elements of the block, padding included (groups of parameters start at multiples of 64 elements).
  /// Parameters with weight decay come first.
  int64_t block_size() const { return block_size_; }
  /// Elements at the start of the block that hold all matrices and the embedding: weight decay applies to
  /// them, and the bf16 copy is made of them. Norms, pseudo-queries and biases follow.
  int64_t matrices_size() const { return matrices_size_; }
  /// Where the first layer's matrices begin; the embedding and an untied head come before them.
  int64_t layers_begin() const { return layers_begin_; }
  /// Where layer i's matrices begin; they end where those of layer i + 1 do, or at matrices_size().
  int64_t layer_begin(int layer) const;
  /// The number a user would count: without padding, a tied head once.
  int64_t num_parameters() const;
  /// View of one parameter in a block (float32 parameters, gradients, moments: all have the same layout).
  Tensor view(const Tensor& block, const Parameter& parameter) const;
  Tensor view(const Tensor& block, const std::string& name) const { return view(block, find(name)); }

 private:
  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, size_t> index_;  // name -> position in parameters_
  int64_t block_size_ = 0, matrices_size_ = 0, layers_begin_ = 0;
};

/// Fills the block with fresh weights (train/model/SPEC.md §2): matrices and embedding N(0, 0.02^2), norms 1,
/// pseudo-queries 0, biases `recency_bias`. Each parameter has its own counter-based stream keyed by (seed,
/// name), so its values depend on nothing else.
void initialize_parameters(const ParameterLayout& layout, uint64_t seed, double recency_bias,
                           const Tensor& block);

}  // namespace depthroute
