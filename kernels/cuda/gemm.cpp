// Matrix products through cuBLASLt. A product's plan and algorithm are settled when it is first met and kept for
// the life of the program: by the choices in force (kernels/gemm_choices.h), otherwise the library's first
// candidate. Handles and scratch are never freed, because at exit the driver may already be gone.
#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "configs/base/check.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cublaslt_library.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_chooser.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

/// The alignment in bytes, at most 16: kernels cannot use more, and more values would only mean more plans.
int64_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  for (int64_t bytes = 16; bytes > 1; bytes /= 2)
    if (address % static_cast<uintptr_t>(bytes) == 0) return bytes;
  return 1;
}

std::string to_text(const cublasLtMatmulAlgo_t& algorithm) {
  return to_hex(std::as_bytes(std::span(&algorithm, 1)));
}
std::optional<cublasLtMatmulAlgo_t> from_text(const std::string& text) {
  cublasLtMatmulAlgo_t algorithm;
  const auto bytes = from_hex(text, sizeof(algorithm));
  if (!bytes) return std::nullopt;
  std::memcpy(&algorithm, bytes->data(), sizeof(algorithm));
  return algorithm;
}

/// cuBLASLt on one device.
class Blas {
 public:
  explicit Blas(int device) : device_(device) {
    int major = 0;
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    workspace_bytes_ = (major >= 9 ? int64_t{64} : int64_t{32}) << 20;  // NVIDIA recommends 32 MiB on Hopper
    DR_CUBLAS_CHECK(cublaslt().create(&handle_), "a handle");
  }

  void run(Stream stream, const GemmProduct& product, const void* a, const void* b, void* c) {
    const std::lock_guard lock(mutex_);
    void* const workspace = workspace_of(handle(stream));
    const auto start = [&](const GemmPlan& plan, const cublasLtMatmulAlgo_t& algorithm) {
      return plan.run(handle_, algorithm, a, b, c, workspace, workspace_bytes_, handle(stream));
    };
    const auto time = [&](const GemmPlan& plan, const cublasLtMatmulAlgo_t& algorithm) {
      // While the GPU computes the first, the second is put on the stream: its launch is not in its time.
      if (start(plan, algorithm) != CUBLAS_STATUS_SUCCESS) {
        (void)cudaGetLastError();  // so that the next kernel's launch does not report it
        return std::numeric_limits<double>::infinity();
      }
      started_.record(stream);
      DR_CUBLAS_CHECK(start(plan, algorithm), to_string(product));
      ended_.record(stream);
      cuda::synchronize(stream);
      return 1e6 * ended_.seconds_since(started_);
    };
    const Settled& settled = settle(product, time);
    DR_CUBLAS_CHECK(start(settled.plan, settled.algorithm), to_string(product));
  }

  void reserve(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    (void)workspace_of(stream);
  }

  GemmContext context() const {
    cudaDeviceProp properties;
    DR_CUDA_CHECK(cudaGetDeviceProperties(&properties, device_));
    return {fmt::format("{}, sm_{}{}, {} SMs", properties.name, properties.major, properties.minor,
                        properties.multiProcessorCount),
            describe_blas(), workspace_bytes_};
  }

  void begin_tuning() {
    const std::lock_guard lock(mutex_);
    settled_.clear();
    chooser_.begin_tuning();
  }
  GemmChoices end_tuning() {
    const std::lock_guard lock(mutex_);
    chooser_.end_tuning();
    return chooser_.choices();
  }
  void use(const GemmChoices& choices) {
    const std::lock_guard lock(mutex_);
    for (const auto& [product, choice] : choices) {
      const auto algorithm = from_text(choice.algorithm);
      if (!algorithm || !GemmPlan(product).accepts(handle_, workspace_bytes_, *algorithm))
        throw DataError("{} does not accept the algorithm for {}", describe_blas(), to_string(product));
    }
    settled_.clear();
    chooser_.use(choices);
  }

 private:
  struct Settled {
    GemmPlan plan;
    cublasLtMatmulAlgo_t algorithm;
  };

  /// `time`: computes the product and returns microseconds.
  template <typename Time>
  const Settled& settle(const GemmProduct& product, const Time& time) {
    if (const auto at = settled_.find(product); at != settled_.end()) return at->second;
    GemmPlan plan(product);
    const auto candidates = [&] {
      std::vector<std::string> texts;
      for (const auto& algorithm : plan.candidates(handle_, workspace_bytes_, kMostCandidates))
        // What use() would refuse must not be chosen.
        if (plan.accepts(handle_, workspace_bytes_, algorithm)) texts.push_back(to_text(algorithm));
      return texts;
    };
    const std::string chosen = chooser_.choose(
        product, candidates, [&](const std::string& text) { return time(plan, from_text(text).value()); });
    const cublasLtMatmulAlgo_t algorithm =
        chosen.empty() ? plan.candidates(handle_, workspace_bytes_, 1).front() : from_text(chosen).value();
    return settled_.emplace(product, Settled{std::move(plan), algorithm}).first->second;
  }

  /// Returns the stream's own scratch, which products on other streams cannot overwrite. Allocated at the
  /// stream's first product, which therefore must not be recorded (CUDA refuses to allocate then).
  void* workspace_of(cudaStream_t stream) {
    void*& workspace = workspaces_[stream];
    if (!workspace) workspace = allocate(workspace_bytes_);
    return workspace;
  }

  const int device_;
  cublasLtHandle_t handle_ = nullptr;
  int64_t workspace_bytes_ = 0;
  std::mutex mutex_;
  GemmChooser chooser_;
  std::map<GemmProduct, Settled> settled_;
  std::map<cudaStream_t, void*> workspaces_;
  Event started_{true}, ended_{true};
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
  const CublasLt& library = cublaslt_or_reason();
  if (!library.unavailable.empty()) return "no cuBLASLt";
  const size_t version = library.get_version();  // 130100 is 13.1.0
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

void reserve_blas(Stream stream) { blas_of_current_device().reserve(handle(stream)); }

GemmContext gemm_context() { return blas_of_current_device().context(); }

GemmChoices tune_gemm(const std::function<void()>& body) {
  Blas& blas = blas_of_current_device();
  blas.begin_tuning();
  try {
    body();
  } catch (...) {
    (void)blas.end_tuning();
    throw;
  }
  return blas.end_tuning();
}

void use_gemm_choices(const GemmChoices& choices) { blas_of_current_device().use(choices); }

void gemm(Stream stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const bool transpose_a = op_a == Transpose::yes, transpose_b = op_b == Transpose::yes;
  DR_CHECK(beta == 0.0f || beta == 1.0f);
  const GemmProduct product{.m = c.rows(),
                            .n = c.cols(),
                            .k = transpose_a ? a.rows() : a.cols(),
                            .transpose_a = transpose_a,
                            .transpose_b = transpose_b,
                            .accumulate = beta == 1.0f,
                            .operands = a.dtype,
                            .result = c.dtype,
                            .a_stride = a.row_stride(),
                            .b_stride = b.row_stride(),
                            .c_stride = c.row_stride(),
                            .a_alignment = alignment_of(a.pointer),
                            .b_alignment = alignment_of(b.pointer),
                            .c_alignment = alignment_of(c.pointer)};
  if (product.m == 0 || product.n == 0) return;
  DR_CHECK(product.k > 0);
  blas_of_current_device().run(stream, product, a.pointer, b.pointer, c.pointer);
}

}  // namespace depthroute::cuda
