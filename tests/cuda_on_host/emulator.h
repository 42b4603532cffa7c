// Lets a C++ compiler build .cu files. Force-included (-include) before each of them, it gives CUDA's
// keywords, built-in variables and device functions a meaning on the host. emulator.cpp runs the threads,
// runtime.cpp replaces libcudart. README.md says what this can and cannot prove.
#pragma once

// CUDA's headers do not redefine keywords that are already defined.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
// Plain static: AddressSanitizer puts redzones around it, and a block's threads share it because blocks run
// one after another. Not thread_local, which has no redzones.
#define __shared__ static
#define __launch_bounds__(...)

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define DEPTHROUTE_CUDA_ON_HOST 1

// The position of the running thread. The emulator sets these before it resumes a thread; a kernel must not
// write to them (nvcc would refuse).
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

namespace depthroute::cuda::emulator {

enum class Barrier { kPlain, kOr, kAnd, kCount };
enum class Collective { kSyncWarp, kShuffle, kShuffleUp, kShuffleDown, kShuffleXor, kBallot, kAny, kAll };

/// Runs `body` once per CUDA thread, or records it if `stream` is capturing. Aborts with a message if a GPU
/// would refuse the launch.
void submit(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> body);

/// Waits for every thread of the block that has not ended. Returns the or / and / count of the predicates, 0
/// for kPlain.
int barrier(Barrier kind, int predicate);

/// Waits for every lane of `mask`. Returns `value` of the lane that `kind`,
/// `operand` and `width` select, or the result of the vote. For a lane outside
/// `mask` returns all bits set (NaN): on a GPU, the value is undefined.
uint64_t collective(Collective kind, uint32_t mask, uint64_t value, int operand, int width);

/// Returns this block's dynamic shared memory: a fresh allocation of exactly the launch's shared_bytes, all
/// bits set (NaN), 128-byte aligned. Null if the launch has none.
void* dynamic_shared();

/// Prints where the thread is and aborts, like __trap() on a GPU.
[[noreturn]] void trap();

template <typename T>
T shuffle(Collective kind, unsigned mask, T value, int operand, int width) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffles move 4- or 8-byte numbers: convert first");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = collective(kind, mask, bits, operand, width);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename To, typename From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace depthroute::cuda::emulator

namespace depthroute::cuda {

/// Launches `kernel`, with the signature of the launch() that nvcc compiles. Arguments are converted and
/// copied now, as in CUDA, so a captured launch replays with the values at capture.
template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Args... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "as many arguments as the kernel has parameters");
  static_assert((std::is_trivially_copyable_v<Params> && ...), "kernel parameters are copied as bytes");
  static_assert((size_t{0} + ... + sizeof(Params)) <= 4096, "kernel parameters fit into 4 KiB");
  std::tuple<Params...> params{static_cast<Params>(args)...};
  emulator::submit(grid, block, shared_bytes, stream, [kernel, params] { std::apply(kernel, params); });
}

}  // namespace depthroute::cuda

/// Declares `T* name`, the block's dynamic shared memory; at most once per kernel.
#define DR_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::depthroute::cuda::emulator::dynamic_shared())

// Block barriers.
inline void __syncthreads() {
  ::depthroute::cuda::emulator::barrier(::depthroute::cuda::emulator::Barrier::kPlain, 0);
}
inline int __syncthreads_or(int predicate) {
  return ::depthroute::cuda::emulator::barrier(::depthroute::cuda::emulator::Barrier::kOr, predicate);
}
inline int __syncthreads_and(int predicate) {
  return ::depthroute::cuda::emulator::barrier(::depthroute::cuda::emulator::Barrier::kAnd, predicate);
}
inline int __syncthreads_count(int predicate) {
  return ::depthroute::cuda::emulator::barrier(::depthroute::cuda::emulator::Barrier::kCount, predicate);
}

// Warp collectives.
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::depthroute::cuda::emulator::collective(::depthroute::cuda::emulator::Collective::kSyncWarp, mask, 0, 0,
                                           32);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source_lane, int width = warpSize) {
  using ::depthroute::cuda::emulator::Collective;
  return ::depthroute::cuda::emulator::shuffle(Collective::kShuffle, mask, value, source_lane, width);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  using ::depthroute::cuda::emulator::Collective;
  return ::depthroute::cuda::emulator::shuffle(Collective::kShuffleUp, mask, value, int(delta), width);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  using ::depthroute::cuda::emulator::Collective;
  return ::depthroute::cuda::emulator::shuffle(Collective::kShuffleDown, mask, value, int(delta), width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  using ::depthroute::cuda::emulator::Collective;
  return ::depthroute::cuda::emulator::shuffle(Collective::kShuffleXor, mask, value, lane_mask, width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  using ::depthroute::cuda::emulator::Collective;
  return unsigned(::depthroute::cuda::emulator::collective(Collective::kBallot, mask, predicate != 0, 0, 32));
}
inline int __any_sync(unsigned mask, int predicate) {
  using ::depthroute::cuda::emulator::Collective;
  return int(::depthroute::cuda::emulator::collective(Collective::kAny, mask, predicate != 0, 0, 32));
}
inline int __all_sync(unsigned mask, int predicate) {
  using ::depthroute::cuda::emulator::Collective;
  return int(::depthroute::cuda::emulator::collective(Collective::kAll, mask, predicate != 0, 0, 32));
}

// Memory. One host thread runs all CUDA threads, so a fence only needs to stop the compiler.
inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <typename T>
void __stwb(T* address, std::type_identity_t<T> value) {
  *address = value;
}
// Real atomics, so that ThreadSanitizer recognises them; relaxed, like CUDA's. They return the old value.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_arithmetic_v<T>, "atomicAdd of numbers only");
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> desired) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, desired, std::memory_order_relaxed);
  return expected;
}

// Bits.
inline int __float_as_int(float x) { return ::depthroute::cuda::emulator::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return ::depthroute::cuda::emulator::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return ::depthroute::cuda::emulator::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return ::depthroute::cuda::emulator::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) {
  return ::depthroute::cuda::emulator::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) { return ::depthroute::cuda::emulator::bit_cast<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)(x)); }

// Arithmetic that libm lacks. Results are correctly rounded; a GPU's approximations differ in the last bits.
inline float rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0f), 1.0f); }
inline int __float2int_rn(float x) { return int(std::nearbyint(x)); }

// nvcc's global min and max, for numbers of one type. A number wins over NaN, as in fminf.
#define DR_EMULATED_MIN_MAX(T)                               \
  inline constexpr T min(T a, T b) { return b < a ? b : a; } \
  inline constexpr T max(T a, T b) { return a < b ? b : a; }
DR_EMULATED_MIN_MAX(int)
DR_EMULATED_MIN_MAX(unsigned)
DR_EMULATED_MIN_MAX(long)
DR_EMULATED_MIN_MAX(unsigned long)
DR_EMULATED_MIN_MAX(long long)
DR_EMULATED_MIN_MAX(unsigned long long)
#undef DR_EMULATED_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

[[noreturn]] inline void __trap() { ::depthroute::cuda::emulator::trap(); }

// The typed overload that cuda_runtime.h defines for nvcc only.
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
