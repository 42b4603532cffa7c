// Setting, copying, converting and adding whole tensors, and the sum of one.
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

__global__ void fill_kernel(Elements all, float value, float* x /*[count]*/) {
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) pack.x[k] = value;
  for (int64_t i = first_element(); i < all.count; i += element_stride()) store_elements(x, i, all, pack);
}

template <typename From, typename To>
__global__ void cast_kernel(Elements all, const From* from /*[count]*/, To* to /*[count]*/) {
  for (int64_t i = first_element(); i < all.count; i += element_stride())
    store_elements(to, i, all, load_elements(from, i, all));
}

// The sum is rounded once, to y's type.
template <typename T>
__global__ void add_kernel(Elements all, const T* x /*[count]*/, T* y /*[count]*/) {
  for (int64_t i = first_element(); i < all.count; i += element_stride()) {
    const Pack a = load_elements(x, i, all);
    Pack b = load_elements(y, i, all);
#pragma unroll
    for (int k = 0; k < kPack; ++k) b.x[k] += a.x[k];
    store_elements(y, i, all, b);
  }
}

// One block, so that the order is fixed: x is a loss per token, a few hundred kilobytes at most.
constexpr int kSumThreads = 1024;

__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(Elements all, const float* x /*[count]*/, double* total /*[1]*/) {
  double sum = 0;
  for (int64_t i = first_element(); i < all.count; i += element_stride()) {
    const Pack pack = load_elements(x, i, all);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += static_cast<double>(pack.x[k]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total += sum;
}

template <typename From, typename To>
void launch_cast(Stream stream, int64_t n, const From* from, To* to) {
  launch(cast_kernel<From, To>, dim3(elementwise_blocks(n)), dim3(kElementwiseThreads), 0, handle(stream),
         elements(n, from, to), from, to);
}

cudaMemcpyKind copy_kind(Device from, Device to) {
  if (from == Device::cuda) return to == Device::cuda ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost;
  return to == Device::cuda ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost;
}

}  // namespace

void zero(Stream stream, const Tensor& x) {
  if (x.bytes() == 0) return;
  DR_CUDA_CHECK(cudaMemsetAsync(x.pointer, 0, static_cast<size_t>(x.bytes()), handle(stream)));
}

void fill(Stream stream, const Tensor& x, float value) {
  const int64_t n = x.numel();
  if (n == 0) return;
  float* to = pointer<float>(x);
  launch(fill_kernel, dim3(elementwise_blocks(n)), dim3(kElementwiseThreads), 0, handle(stream),
         elements(n, to), value, to);
}

// In order with the stream. With ordinary host memory, CUDA has taken its own copy (to the device) or has
// written it (from the device) by the time the call returns; page-locked host memory must not change until
// the stream is synchronized.
void copy(Stream stream, const Tensor& from, const Tensor& to) {
  if (from.bytes() == 0) return;
  DR_CUDA_CHECK(cudaMemcpyAsync(to.pointer, from.pointer, static_cast<size_t>(from.bytes()),
                                copy_kind(from.device, to.device), handle(stream)));
}

void cast(Stream stream, const Tensor& from, const Tensor& to) {
  const int64_t n = from.numel();
  if (n == 0) return;
  if (from.dtype == DType::f32) {
    DR_CHECK(to.dtype == DType::bf16);
    launch_cast(stream, n, pointer<float>(from), pointer<bf16>(to));
  } else {
    DR_CHECK(from.dtype == DType::bf16 && to.dtype == DType::f32);
    launch_cast(stream, n, pointer<bf16>(from), pointer<float>(to));
  }
}

void add(Stream stream, const Tensor& x, const Tensor& y) {
  const int64_t n = x.numel();
  if (n == 0) return;
  with_activation_type(x.dtype, [&]<typename T>() {
    launch(add_kernel<T>, dim3(elementwise_blocks(n)), dim3(kElementwiseThreads), 0, handle(stream),
           elements(n, pointer<T>(x), pointer<T>(y)), pointer<T>(x), pointer<T>(y));
  });
}

void sum(Stream stream, const Tensor& x, const Tensor& total) {
  const float* values = pointer<float>(x);
  launch(sum_kernel, dim3(1), dim3(kSumThreads), 0, handle(stream), elements(x.numel(), values), values,
         pointer<double>(total));
}

}  // namespace depthroute::cuda
