// kernels/cuda/kernels.h for builds without CUDA. No tensor can be on such a device, so nothing here is ever
// called.
#include <cstdlib>

#include "configs/base/check.h"
#include "kernels/cuda/kernels.h"

namespace depthroute::cuda {

namespace {

[[noreturn]] void absent() {
  DR_CHECK_MSG(false, "this build has no CUDA kernels");
  std::abort();
}

}  // namespace

void zero(Stream, const Tensor&) { absent(); }
void fill(Stream, const Tensor&, float) { absent(); }
void copy(Stream, const Tensor&, const Tensor&) { absent(); }
void cast(Stream, const Tensor&, const Tensor&) { absent(); }
void add(Stream, const Tensor&, const Tensor&) { absent(); }
void sum(Stream, const Tensor&, const Tensor&) { absent(); }
void sum_parts(Stream, const Tensor&, const Tensor&) { absent(); }

void gemm(Stream, bool, bool, const Tensor&, const Tensor&, float, const Tensor&) { absent(); }

void embedding_forward(Stream, const Tensor&, const Tensor&, const Tensor&) { absent(); }
void embedding_backward(Stream, const Tensor&, const Tensor&, const Tensor&) { absent(); }

int64_t reduction_workspace(int64_t) { return 0; }
void rms_norm_forward(Stream, const Tensor&, const Tensor&, float, const Tensor&, const Tensor&) { absent(); }
void rms_norm_backward(Stream, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&, const Tensor&) {
  absent();
}

void rope_table(Stream, double, const Tensor&) { absent(); }
void qk_norm_rope_forward(Stream, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&, float,
                          const Tensor&, const Tensor&, const Tensor&) {
  absent();
}
void qk_norm_rope_backward(Stream, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, const Tensor&, float, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, const Tensor&) {
  absent();
}

int64_t attention_workspace(DType, const AttentionShape&) { return 0; }
void attention_forward(Stream, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&, const Tensor&, const Tensor&) {
  absent();
}
void attention_backward(Stream, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&) {
  absent();
}

void swiglu_forward(Stream, const Tensor&, const Tensor&) { absent(); }
void swiglu_backward(Stream, const Tensor&, const Tensor&, const Tensor&, const Tensor&) { absent(); }

int64_t cross_entropy_workspace(DType, int64_t, int64_t) { return 0; }
void cross_entropy(Stream, const Tensor&, const Tensor&, const Tensor&, float, const Tensor&, const Tensor&,
                   const Tensor&, const Tensor&) {
  absent();
}
int64_t cross_entropy_compare_workspace(DType, int64_t, int64_t) { return 0; }
void cross_entropy_compare(Stream, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, const Tensor&, const Tensor&) {
  absent();
}

void routing_forward(Stream, const RoutingSite&, const Tensor&, const Tensor&) { absent(); }
int64_t routing_backward_workspace(int64_t) { return 0; }
void routing_backward(Stream, const RoutingSite&, const Tensor&, const Tensor&, const RoutingGradients&,
                      const Tensor&) {
  absent();
}
void routing_backward_shared(Stream, std::span<const RoutingSite>, std::span<const Tensor>,
                             std::span<const Tensor>, std::span<const RoutingGradients>, const Tensor&) {
  absent();
}

int64_t sum_of_squares_workspace() { return 0; }
void sum_of_squares(Stream, const Tensor&, const Tensor&, const Tensor&) { absent(); }
void combine_parts(Stream, const Tensor&, int64_t, const Tensor&, const Tensor&) { absent(); }
void adamw(Stream, const AdamwStep&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
           const Tensor&, const Tensor&, const Tensor&) {
  absent();
}

}  // namespace depthroute::cuda
