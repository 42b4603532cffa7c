#include "kernels/cuda/gemm_plan.h"

#include "kernels/cuda/cublaslt_library.h"

namespace depthroute::cuda {
namespace {

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

template <typename T>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, const T& value,
         const GemmProduct& p) {
  DR_CUBLAS_CHECK(cublaslt().desc_set_attribute(description, attribute, &value, sizeof(value)), to_string(p));
}
template <typename T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value, const GemmProduct& p) {
  DR_CUBLAS_CHECK(cublaslt().preference_set_attribute(preference, attribute, &value, sizeof(value)),
                  to_string(p));
}

}  // namespace

void GemmPlan::Destroy::operator()(cublasLtMatmulDescOpaque_t* description) const {
  (void)cublaslt().desc_destroy(description);
}
void GemmPlan::Destroy::operator()(cublasLtMatrixLayoutOpaque_t* layout) const {
  (void)cublaslt().layout_destroy(layout);
}
void GemmPlan::Destroy::operator()(cublasLtMatmulPreferenceOpaque_t* preference) const {
  (void)cublaslt().preference_destroy(preference);
}

GemmPlan::GemmPlan(const GemmProduct& p) : product_(p) {
  cublasLtMatmulDesc_t description = nullptr;
  // Real float32: TF32 would be CUBLAS_COMPUTE_32F_FAST_TF32.
  DR_CUBLAS_CHECK(cublaslt().desc_create(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), to_string(p));
  description_.reset(description);
  const cublasOperation_t op_first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t op_second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(description, CUBLASLT_MATMUL_DESC_TRANSA, op_first, p);
  set(description, CUBLASLT_MATMUL_DESC_TRANSB, op_second, p);
  a_ = layout(p.operands, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.a_stride);
  b_ = layout(p.operands, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.b_stride);
  c_ = layout(p.result, p.m, p.n, p.c_stride);
}

/// Describes a row-major matrix as the column-major one that cuBLASLt sees.
GemmPlan::Layout GemmPlan::layout(DType dtype, int64_t rows, int64_t columns, int64_t stride) const {
  cublasLtMatrixLayout_t result = nullptr;
  DR_CUBLAS_CHECK(cublaslt().layout_create(&result, type_of(dtype), static_cast<uint64_t>(columns),
                                           static_cast<uint64_t>(rows), stride),
                  to_string(product_));
  return Layout(result);
}

std::vector<cublasLtMatmulAlgo_t> GemmPlan::candidates(cublasLtHandle_t handle, int64_t workspace_bytes,
                                                       int most) const {
  const GemmProduct& p = product_;
  cublasLtMatmulPreference_t preference = nullptr;
  DR_CUBLAS_CHECK(cublaslt().preference_create(&preference), to_string(p));
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy> owner(preference);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.b_alignment), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.a_alignment), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.c_alignment), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p.c_alignment), p);
  // If k is split, partial products are added in float32: the other schemes add in c's type, perhaps bf16.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), p);

  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
  int found = 0;
  DR_CUBLAS_CHECK(cublaslt().algo_get_heuristic(handle, description_.get(), b_.get(), a_.get(), c_.get(),
                                                c_.get(), preference, most, results.data(), &found),
                  to_string(p));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < found; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
  }
  if (algorithms.empty()) throw SystemError("cuBLASLt: no algorithm for {}", to_string(p));
  return algorithms;
}

bool GemmPlan::accepts(cublasLtHandle_t handle, int64_t workspace_bytes,
                       const cublasLtMatmulAlgo_t& algorithm) const {
  cublasLtMatmulHeuristicResult_t result{};
  if (cublaslt().algo_check(handle, description_.get(), b_.get(), a_.get(), c_.get(), c_.get(), &algorithm,
                            &result) != CUBLAS_STATUS_SUCCESS ||
      result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > static_cast<size_t>(workspace_bytes))
    return false;
  // The check does not see the operands' addresses.
  const auto needs_more = [&](cublasLtMatmulAlgoCapAttributes_t attribute, int64_t alignment) {
    uint32_t needed = 0;
    size_t written = 0;
    return cublaslt().algo_cap_get_attribute(&algorithm, attribute, &needed, sizeof(needed), &written) !=
               CUBLAS_STATUS_SUCCESS ||
           needed > alignment;
  };
  return !needs_more(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES, product_.b_alignment) &&
         !needs_more(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES, product_.a_alignment) &&
         !needs_more(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES, product_.c_alignment) &&
         !needs_more(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES, product_.c_alignment);
}

cublasStatus_t GemmPlan::run(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm, const void* a,
                             const void* b, void* c, void* workspace, int64_t workspace_bytes,
                             cudaStream_t stream) const {
  const float one = 1.0f, beta = product_.accumulate ? 1.0f : 0.0f;
  return cublaslt().matmul(handle, description_.get(), &one, b, b_.get(), a, a_.get(), &beta, c, c_.get(), c,
                           c_.get(), &algorithm, workspace, static_cast<size_t>(workspace_bytes), stream);
}

}  // namespace depthroute::cuda
