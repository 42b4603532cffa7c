// Matrix products through cuBLASLt. It is column-major: a row-major [r, c] is its [c, r]. So we ask for
// c^T = op(b)^T op(a)^T, with b first, and nothing is moved.
//
// The library's heuristics are asked once per kind of product, and the plan is kept for the life of the
// program. Plans and scratch are never freed, because at exit the driver may already be gone.
#include <fmt/format.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_check.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  DType act, out;
  int64_t a_stride, b_stride, c_stride;
  int64_t a_alignment, b_alignment, c_alignment;  // bytes

  std::array<int64_t, 13> key() const {
    return {transpose_a,
            transpose_b,
            m,
            n,
            k,
            static_cast<int64_t>(act),
            static_cast<int64_t>(out),
            a_stride,
            b_stride,
            c_stride,
            a_alignment,
            b_alignment,
            c_alignment};
  }
  std::string text() const {
    return fmt::format("c [{}, {}] {} = {} [{}, {}]{} b{} (row strides {}, {}, {})", m, n, to_string(out),
                       to_string(act), m, k, transpose_a ? "^T" : "", transpose_b ? "^T" : "", a_stride,
                       b_stride, c_stride);
  }
};

struct KeyHash {
  size_t operator()(const std::array<int64_t, 13>& key) const {
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over words
    for (int64_t word : key) hash = (hash ^ static_cast<uint64_t>(word)) * 0x100000001b3;
    return hash ^ (hash >> 32);
  }
};

struct Plan {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

/// The alignment in bytes, at most 16: kernels cannot use more, and more values would only mean more plans.
int64_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  for (int64_t bytes = 16; bytes > 1; bytes /= 2)
    if (address % static_cast<uintptr_t>(bytes) == 0) return bytes;
  return 1;
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// cuBLASLt on one device.
class Blas {
 public:
  explicit Blas(int device) {
    int major = 0;
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    workspace_bytes_ = (major >= 9 ? int64_t{64} : int64_t{32}) << 20;  // NVIDIA recommends 32 MiB on Hopper
    DR_CUBLAS_CHECK(cublasLtCreate(&handle_), "a handle");
  }

  void run(cudaStream_t stream, const Product& product, const void* a, const void* b, float beta, void* c) {
    const float one = 1.0f;
    const std::lock_guard lock(mutex_);
    const Plan& plan = plan_of(product);
    DR_CUBLAS_CHECK(
        cublasLtMatmul(handle_, plan.product, &one, b, plan.b, a, plan.a, &beta, c, plan.c, c, plan.c,
                       &plan.algorithm, workspace_of(stream), static_cast<size_t>(workspace_bytes_), stream),
        product.text());
  }

  void reserve(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    (void)workspace_of(stream);
  }

 private:
  const Plan& plan_of(const Product& product) {
    const auto [at, is_new] = plans_.try_emplace(product.key());
    if (!is_new) return at->second;
    try {
      at->second = make_plan(product);
    } catch (...) {
      plans_.erase(at);
      throw;
    }
    return at->second;
  }

  Plan make_plan(const Product& p) const {
    Plan plan;
    const std::string what = p.text();
    // Real float32: TF32 would be CUBLAS_COMPUTE_32F_FAST_TF32.
    DR_CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), what);
    const cublasOperation_t op_first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t op_second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, op_first, what);
    set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, op_second, what);
    plan.a = layout(p.act, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.a_stride, what);
    plan.b = layout(p.act, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.b_stride, what);
    plan.c = layout(p.out, p.m, p.n, p.c_stride, what);

    cublasLtMatmulPreference_t preference = nullptr;
    DR_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference), what);
    const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, decltype(&cublasLtMatmulPreferenceDestroy)> owner(
        preference, &cublasLtMatmulPreferenceDestroy);
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes_), what);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.b_alignment), what);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.a_alignment), what);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.c_alignment), what);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p.c_alignment), what);
    // If k is split, partial products are added in float32: the other schemes add in c's type, perhaps bf16.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), what);

    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    DR_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle_, plan.product, plan.b, plan.a, plan.c, plan.c,
                                                   preference, 1, &result, &found),
                    what);
    if (found == 0) throw SystemError("cuBLASLt: no algorithm for {}", what);
    DR_CUBLAS_CHECK(result.state, what);
    plan.algorithm = result.algo;
    return plan;
  }

  template <typename T>
  static void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value,
                  const std::string& what) {
    DR_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)), what);
  }
  template <typename T>
  static void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                  const T& value, const std::string& what) {
    DR_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), what);
  }

  /// Describes a row-major matrix as the column-major one that cuBLASLt sees.
  static cublasLtMatrixLayout_t layout(DType dtype, int64_t rows, int64_t columns, int64_t stride,
                                       const std::string& what) {
    cublasLtMatrixLayout_t result = nullptr;
    DR_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&result, type_of(dtype), static_cast<uint64_t>(columns),
                                               static_cast<uint64_t>(rows), stride),
                    what);
    return result;
  }

  /// Returns the stream's own scratch, which products on other streams cannot overwrite. Allocated at the
  /// stream's first product, which therefore must not be recorded (CUDA refuses to allocate then).
  void* workspace_of(cudaStream_t stream) {
    void*& workspace = workspaces_[stream];
    if (!workspace) workspace = allocate(workspace_bytes_);
    return workspace;
  }

  cublasLtHandle_t handle_ = nullptr;
  int64_t workspace_bytes_ = 0;
  std::mutex mutex_;
  std::unordered_map<std::array<int64_t, 13>, Plan, KeyHash> plans_;
  std::map<cudaStream_t, void*> workspaces_;
};

Blas& blas_of_current_device() {
  static std::mutex mutex;
  static auto& instances = *new std::map<int, std::unique_ptr<Blas>>;
  int device = 0;
  DR_CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  std::unique_ptr<Blas>& instance = instances[device];
  if (!instance) instance = std::make_unique<Blas>(device);
  return *instance;
}

}  // namespace

std::string describe_blas() {
  const size_t version = cublasLtGetVersion();  // 130100 is 13.1.0
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

void reserve_blas(Stream stream) { blas_of_current_device().reserve(handle(stream)); }

void gemm(Stream stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const bool transpose_a = op_a == Transpose::yes, transpose_b = op_b == Transpose::yes;
  const Product product{transpose_a,
                        transpose_b,
                        c.rows(),
                        c.cols(),
                        transpose_a ? a.rows() : a.cols(),
                        a.dtype,
                        c.dtype,
                        a.row_stride(),
                        b.row_stride(),
                        c.row_stride(),
                        alignment_of(a.pointer),
                        alignment_of(b.pointer),
                        alignment_of(c.pointer)};
  if (product.m == 0 || product.n == 0) return;
  DR_CHECK(product.k > 0);
  blas_of_current_device().run(handle(stream), product, a.pointer, b.pointer, beta, c.pointer);
}

}  // namespace depthroute::cuda
