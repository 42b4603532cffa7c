// kernels/gemm_choices.h by device.
#include "configs/base/check.h"
#include "kernels/cuda/gemm_chooser.h"
#include "kernels/gemm_choices.h"

namespace depthroute {

bool has_gemm_choices(Device device) { return device == Device::cuda; }

GemmContext gemm_context(Stream stream) {
  DR_CHECK(has_gemm_choices(stream.device));
  return cuda::gemm_context();
}

GemmChoices tune_gemm(Stream stream, const std::function<void()>& body) {
  DR_CHECK(has_gemm_choices(stream.device));
  return cuda::tune_gemm(body);
}

void use_gemm_choices(Stream stream, const GemmChoices& choices) {
  DR_CHECK(has_gemm_choices(stream.device));
  cuda::use_gemm_choices(choices);
}

}  // namespace depthroute
