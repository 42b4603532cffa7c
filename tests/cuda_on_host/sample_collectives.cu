// One kernel for each thing the emulator provides, and the misuses it must report.
#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

constexpr unsigned kAll = 0xffffffffu;

template <typename T>
__global__ void shuffles_kernel(T* out, int operand, int width) {
  const int lane = int(threadIdx.x);
  const T value = T(1000 * lane + 7);
  out[lane] = __shfl_sync(kAll, value, operand, width);
  out[32 + lane] = __shfl_up_sync(kAll, value, unsigned(operand), width);
  out[64 + lane] = __shfl_down_sync(kAll, value, unsigned(operand), width);
  out[96 + lane] = __shfl_xor_sync(kAll, value, operand, width);
}

__global__ void half_warp_sums_kernel(int* out) {
  const int lane = int(threadIdx.x);
  int sum = lane;
  // The halves differ: the upper one shuffles once more.
  if (lane < 16) {
    for (int offset = 8; offset > 0; offset /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, offset, 16);
  } else {
    for (int offset = 8; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffff0000u, sum, offset, 16);
    sum = __shfl_sync(0xffff0000u, sum, lane);
  }
  out[lane] = sum;
}

__global__ void votes_kernel(unsigned set, unsigned* ballot, int* any, int* all) {
  const unsigned lane = threadIdx.x;
  const int predicate = int(set >> lane & 1);
  ballot[lane] = __ballot_sync(kAll, predicate * 5);
  any[lane] = __any_sync(kAll, predicate);
  all[lane] = __all_sync(kAll, predicate);
}

__global__ void counting_barriers_kernel(int* out, int limit) {
  const int threads = int(blockDim.x);
  const int thread = int(threadIdx.x);
  if (thread % 3 == 0) {
    for (int i = 0; i < 3; ++i) out[i * threads + thread] = -1;
    return;
  }
  out[thread] = __syncthreads_count(thread < limit);
  out[threads + thread] = __syncthreads_or(thread < limit);
  out[2 * threads + thread] = __syncthreads_and(thread < limit);
}

__global__ void indices_kernel(uint64_t* out) {
  const uint64_t block = (uint64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint64_t rank = (uint64_t{threadIdx.z} * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  uint64_t packed = 0;
  for (const unsigned part : {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z}) {
    packed = packed << 10 | part;
  }
  __syncthreads();  // a thread's indices stay its own after others have run
  if (packed >> 50 != threadIdx.x || packed % 1024 != blockIdx.z) packed = 0;
  out[block * (blockDim.x * blockDim.y * blockDim.z) + rank] = packed;
}

__global__ void atomic_sums_kernel(float* f, double* d, int* i, unsigned* u) {
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  atomicAdd(i, -3);
  atomicAdd(u, 2u);
}

// Each fourth of the numbers through another load and another width of store.
__global__ void cached_copies_kernel(const uint4* from, uint4* to) {
  const unsigned thread = threadIdx.x, part = thread % 4;
  const uint4 x = part % 2 == 0 ? __ldg(from + thread) : __ldcs(from + thread);
  uint2* const halves = reinterpret_cast<uint2*>(to + thread);
  if (part == 0) __stcs(to + thread, x);
  if (part == 1) __stwb(to + thread, x);
  if (part == 2) {
    __stcs(halves, uint2{x.x, x.y});
    __stwb(halves + 1, uint2{x.z, x.w});
  }
  if (part == 3) {
    __stwb(halves, uint2{x.x, x.y});
    __stcs(halves + 1, uint2{x.z, x.w});
  }
}

__global__ void count_nans_kernel(int* out, int floats) {
  DR_DYNAMIC_SHARED(float, memory);  // [floats]
  int nans = 0;
  for (int i = int(threadIdx.x); i < floats; i += 32) nans += isnan(memory[i]) ? 1 : 0;
  for (int offset = 16; offset > 0; offset /= 2) nans += __shfl_xor_sync(kAll, nans, offset);
  if (threadIdx.x == 0) out[blockIdx.x] = nans;
  for (int i = int(threadIdx.x); i < floats; i += 32) memory[i] = 1.0f;
}

__global__ void nothing_kernel() {}

__global__ void misuse_kernel(Misuse kind) {
  const int thread = int(threadIdx.x);
  switch (kind) {
    case Misuse::kDivergentBarrier:
      if (thread < 16) {
        __syncthreads();
      } else {
        __shfl_xor_sync(kAll, thread, 1);
      }
      break;
    case Misuse::kMixedBarriers:
      if (thread == 0) {
        __syncthreads();
      } else {
        __syncthreads_or(1);
      }
      break;
    case Misuse::kLaneEnded:
      if (thread == 5) return;
      if (thread != 5) __syncthreads();  // until lane 5 has ended
      __shfl_xor_sync(kAll, thread, 1);
      break;
    case Misuse::kLaneEndsLater:
      if (thread == 31) return;
      __shfl_xor_sync(kAll, thread, 1);
      break;
    case Misuse::kLaneMissing:
      __shfl_xor_sync(kAll, thread, 1);
      break;
    case Misuse::kMaskWithoutSelf:
      __shfl_xor_sync(0xfffffffeu, thread, 1);
      break;
    case Misuse::kWidthNotPowerOfTwo:
      __shfl_xor_sync(kAll, thread, 1, 12);
      break;
    case Misuse::kMixedCollectives:
      if (thread < 16) {
        __shfl_xor_sync(kAll, thread, 1);
      } else {
        __ballot_sync(kAll, 1);
      }
      break;
    case Misuse::kTrap:
      if (thread == 7) __trap();
      break;
  }
}

}  // namespace

template <typename T>
void shuffles(T* out, int operand, int width, cudaStream_t stream) {
  launch(shuffles_kernel<T>, dim3(1), dim3(32), 0, stream, out, operand, width);
}
template void shuffles(int*, int, int, cudaStream_t);
template void shuffles(unsigned*, int, int, cudaStream_t);
template void shuffles(int64_t*, int, int, cudaStream_t);
template void shuffles(float*, int, int, cudaStream_t);
template void shuffles(double*, int, int, cudaStream_t);

void half_warp_sums(int* out, cudaStream_t stream) {
  launch(half_warp_sums_kernel, dim3(1), dim3(32), 0, stream, out);
}

void votes(uint32_t set, unsigned* ballot, int* any, int* all, cudaStream_t stream) {
  launch(votes_kernel, dim3(1), dim3(32), 0, stream, set, ballot, any, all);
}

void counting_barriers(int* out, int threads, int limit, cudaStream_t stream) {
  launch(counting_barriers_kernel, dim3(1), dim3(unsigned(threads)), 0, stream, out, limit);
}

void indices(uint64_t* out, dim3 grid, dim3 block, cudaStream_t stream) {
  launch(indices_kernel, grid, block, 0, stream, out);
}

void atomic_sums(float* f, double* d, int* i, unsigned* u, int blocks, cudaStream_t stream) {
  launch(atomic_sums_kernel, dim3(unsigned(blocks)), dim3(96), 0, stream, f, d, i, u);
}

void cached_copies(const void* from, void* to, int threads, cudaStream_t stream) {
  launch(cached_copies_kernel, dim3(1), dim3(unsigned(threads)), 0, stream, static_cast<const uint4*>(from),
         static_cast<uint4*>(to));
}

void count_nans_in_dynamic_shared(int* out, int blocks, int floats, cudaStream_t stream) {
  launch(count_nans_kernel, dim3(unsigned(blocks)), dim3(32), size_t(floats) * sizeof(float), stream, out,
         floats);
}

void nothing(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  launch(nothing_kernel, grid, block, shared_bytes, stream);
}

void misuse(Misuse kind, cudaStream_t stream) {
  const unsigned threads = kind == Misuse::kLaneMissing ? 16 : 32;
  launch(misuse_kernel, dim3(1), dim3(threads), 0, stream, kind);
}

void barrier_on_the_host() { __syncthreads(); }

}  // namespace depthroute::cuda::samples
