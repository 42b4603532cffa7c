// act = silu(gate) * up, silu(g) = g s, s = 1 / (1 + e^-g). A thread takes 8 columns of a row.
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename T>
__global__ void __launch_bounds__(kThreads)
    swiglu_forward_kernel(int64_t f, const T* gate_up /*[N, gate|up: 2*F]*/, T* act /*[N,F]*/) {
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kPack;
  if (column >= f) return;
  const int64_t row = blockIdx.x;
  const T* from = gate_up + row * 2 * f + column;
  const Pack gate = load_pack(from), up = load_pack(from + f);
  Pack out;
#pragma unroll
  for (int k = 0; k < kPack; ++k) out.x[k] = gate.x[k] * sigmoid(gate.x[k]) * up.x[k];
  store_pack(act + row * f + column, out);
}

// silu'(g) = s + g s (1 - s). A thread reads everything before it writes: dgate_up may be gate_up.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(int64_t f, const T* dact /*[N,F]*/, const T* gate_up /*[N, gate|up: 2*F]*/,
                           T* dgate_up /*[N, gate|up: 2*F]*/, T* act /*[N,F] or nullptr*/) {
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kPack;
  if (column >= f) return;
  const int64_t row = blockIdx.x;
  const int64_t at = row * 2 * f + column;
  const Pack gate = load_pack(gate_up + at), up = load_pack(gate_up + at + f);
  const Pack d = load_pack(dact + row * f + column);
  Pack out, dgate, dup;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const float s = sigmoid(gate.x[k]);
    const float silu = gate.x[k] * s;
    out.x[k] = silu * up.x[k];
    dgate.x[k] = d.x[k] * up.x[k] * (s + silu * (1.0f - s));
    dup.x[k] = d.x[k] * silu;
  }
  if (act) store_pack(act + row * f + column, out);
  store_pack(dgate_up + at, dgate);
  store_pack(dgate_up + at + f, dup);
}

dim3 grid(const Tensor& act) {
  return dim3(narrow<int>(act.rows()), narrow<int>(div_ceil(act.cols(), kThreads * kPack)));
}

}  // namespace

void swiglu_forward(Stream stream, const Tensor& gate_up, const Tensor& act) {
  if (act.numel() == 0) return;
  with_activation_type(act.dtype, [&]<typename T>() {
    launch(swiglu_forward_kernel<T>, grid(act), dim3(kThreads), 0, handle(stream), act.cols(),
           pointer<T>(gate_up), pointer<T>(act));
  });
}

void swiglu_backward(Stream stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  if (dact.numel() == 0) return;
  with_activation_type(dact.dtype, [&]<typename T>() {
    launch(swiglu_backward_kernel<T>, grid(dact), dim3(kThreads), 0, handle(stream), dact.cols(),
           pointer<T>(dact), pointer<T>(gate_up), pointer<T>(dgate_up), pointer<T>(act));
  });
}

}  // namespace depthroute::cuda
