// One matrix product as cuBLASLt describes it. cuBLASLt is column-major: a row-major [r, c] is its [c, r]. So it is
// asked for c^T = op(b)^T op(a)^T, with b first, and nothing is moved.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <vector>

#include "kernels/gemm_choices.h"

namespace depthroute::cuda {

class GemmPlan {
 public:
  explicit GemmPlan(const GemmProduct& product);

  /// Returns up to `most` algorithms that need no more than `workspace_bytes` of scratch, by the library's estimate
  /// of their speed. SystemError if there is none.
  std::vector<cublasLtMatmulAlgo_t> candidates(cublasLtHandle_t handle, int64_t workspace_bytes,
                                               int most) const;
  /// Whether the library accepts this algorithm, which may come from a file, for the product.
  bool accepts(cublasLtHandle_t handle, int64_t workspace_bytes, const cublasLtMatmulAlgo_t& algorithm) const;

  /// Computes the product by `algorithm`. cuBLAS refuses some at the last moment only.
  cublasStatus_t run(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm, const void* a,
                     const void* b, void* c, void* workspace, int64_t workspace_bytes,
                     cudaStream_t stream) const;

 private:
  struct Destroy {
    void operator()(cublasLtMatmulDescOpaque_t* description) const;
    void operator()(cublasLtMatrixLayoutOpaque_t* layout) const;
    void operator()(cublasLtMatmulPreferenceOpaque_t* preference) const;
  };
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
  Layout layout(DType dtype, int64_t rows, int64_t columns, int64_t stride) const;

  GemmProduct product_;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy> description_;
  Layout a_, b_, c_;
};

}  // namespace depthroute::cuda
