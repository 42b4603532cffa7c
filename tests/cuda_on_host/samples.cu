// The sample kernel that faults are planted in, and a kernel without barriers.
#include <cuda_bf16.h>

#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

template <Fault fault>
__global__ void __launch_bounds__(kThreads)
    normalize_rows_kernel(const float* __restrict__ x, float* __restrict__ y, int cols) {
  DR_DYNAMIC_SHARED(float, row);  // [cols] this block's row of x
  __shared__ float partial_sums[kWarps];
  const float* in = x + int64_t{blockIdx.x} * cols;
  if constexpr (fault == Fault::kMisaligned) in += 1;
  const int past = fault == Fault::kGlobalOutOfBounds ? 1 : 0;

  float sum = 0;
  for (int c = int(threadIdx.x) * 4; c < cols + past * 4; c += kThreads * 4) {
    const float4 four = *reinterpret_cast<const float4*>(in + c);
    sum += (four.x + four.y) + (four.z + four.w);
    if (c < cols) *reinterpret_cast<float4*>(row + c) = four;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  const int slot = int(threadIdx.x) / 32 + (fault == Fault::kStaticOutOfBounds ? 1 : 0);
  float* slots = partial_sums;  // a pointer, because UBSan would check an array's index before ASan sees it
  if (threadIdx.x % 32 == 0) slots[slot] = sum;
  if constexpr (fault != Fault::kMissingBarrier) __syncthreads();

  float total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += partial_sums[warp];
  if constexpr (fault == Fault::kOverwrittenTooEarly) {
    if (threadIdx.x == 0) partial_sums[kWarps - 1] = 0;
    __syncthreads();  // too late, and must not hide from ThreadSanitizer what happened before it
  }
  const int shift = fault == Fault::kDynamicOutOfBounds ? 1 : 0;
  for (int c = int(threadIdx.x); c < cols; c += kThreads)
    y[int64_t{blockIdx.x} * cols + c] = row[c + shift] / total;
}

template <Fault fault>
void start(const float* x, float* y, int rows, int cols, cudaStream_t stream) {
  launch(normalize_rows_kernel<fault>, dim3(unsigned(rows)), dim3(kThreads), size_t(cols) * sizeof(float),
         stream, x, y, cols);
}

__global__ void scale_bf16_kernel(__nv_bfloat16* x, int64_t n, float factor, float addend) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  x[i] = __float2bfloat16_rn(__bfloat162float(x[i]) * factor + addend);
}

}  // namespace

void normalize_rows(Fault fault, const float* x, float* y, int rows, int cols, cudaStream_t stream) {
  switch (fault) {
    case Fault::kNone:
      return start<Fault::kNone>(x, y, rows, cols, stream);
    case Fault::kOverwrittenTooEarly:
      return start<Fault::kOverwrittenTooEarly>(x, y, rows, cols, stream);
    case Fault::kMissingBarrier:
      return start<Fault::kMissingBarrier>(x, y, rows, cols, stream);
    case Fault::kGlobalOutOfBounds:
      return start<Fault::kGlobalOutOfBounds>(x, y, rows, cols, stream);
    case Fault::kStaticOutOfBounds:
      return start<Fault::kStaticOutOfBounds>(x, y, rows, cols, stream);
    case Fault::kDynamicOutOfBounds:
      return start<Fault::kDynamicOutOfBounds>(x, y, rows, cols, stream);
    case Fault::kMisaligned:
      return start<Fault::kMisaligned>(x, y, rows, cols, stream);
  }
}

void scale_bf16(void* x, int64_t n, float factor, float addend, int threads, cudaStream_t stream) {
  const auto blocks = unsigned((n + threads - 1) / threads);
  launch(scale_bf16_kernel, dim3(blocks), dim3(unsigned(threads)), 0, stream, static_cast<__nv_bfloat16*>(x),
         n, factor, addend);
}

}  // namespace depthroute::cuda::samples
