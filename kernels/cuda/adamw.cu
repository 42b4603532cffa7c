// AdamW with clipping by the global norm (train/model/SPEC.md §3), on a slice of the parameters:
//   g = grad * min(1, max_norm / (norm + 1e-6));  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   param -= lr (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay param)
// Reads norm and loss on the device, so that the host need not wait for them.
#include <cfloat>

#include "kernels/adamw_factors.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

__device__ __forceinline__ float clip_factor(float norm, float max_norm) {
  if (max_norm == 0.0f) return 1.0f;
  return static_cast<float>(fmin(1.0, static_cast<double>(max_norm) / (static_cast<double>(norm) + 1e-6)));
}

__global__ void __launch_bounds__(kElementwiseThreads)
    adamw_kernel(Elements all, AdamwFactors c, const float* norm /*[1]*/, const double* loss /*[1]*/,
                 const float* grad /*[count]*/, float* param /*[count]*/, float* m /*[count]*/,
                 float* v /*[count]*/, bf16* compute /*[count] or null*/) {
  if (!(fabsf(*norm) <= FLT_MAX) || !(fabs(*loss) <= DBL_MAX)) return;  // infinite or NaN
  const float clip = clip_factor(*norm, c.max_norm);
  for (int64_t i = first_element(); i < all.count; i += element_stride()) {
    const Pack grads = load_elements(grad, i, all);
    Pack params = load_elements(param, i, all);
    Pack ms = load_elements(m, i, all);
    Pack vs = load_elements(v, i, all);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float g = grads.x[k] * clip;
      ms.x[k] = c.beta1 * ms.x[k] + c.one_minus_beta1 * g;
      vs.x[k] = c.beta2 * vs.x[k] + c.one_minus_beta2 * g * g;
      params.x[k] -= c.step_size * ms.x[k] / (sqrtf(vs.x[k] * c.v_scale) + c.eps) + c.decay * params.x[k];
    }
    store_elements(param, i, all, params);
    store_elements(m, i, all, ms);
    store_elements(v, i, all, vs);
    if (compute != nullptr) store_elements(compute, i, all, params);
  }
}

}  // namespace

void adamw(Stream stream, const AdamwStep& step, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute) {
  const int64_t n = param.numel();
  if (n == 0) return;
  const Elements all = elements(n, pointer<float>(grad), pointer<float>(param), pointer<float>(m),
                                pointer<float>(v), pointer<bf16>(compute));
  launch(adamw_kernel, dim3(elementwise_blocks(n)), dim3(kElementwiseThreads), 0, handle(stream), all,
         AdamwFactors(step), pointer<float>(norm), pointer<double>(loss), pointer<float>(grad),
         pointer<float>(param), pointer<float>(m), pointer<float>(v), pointer<bf16>(compute));
}

}  // namespace depthroute::cuda
