// planted_faults FAULT: runs the sample kernel with one fault in it. Exits with 0 if nothing noticed, which
// tells test_planted_faults whether a sanitizer did.
#include <cstdio>
#include <cstring>
#include <vector>

#include "tests/cuda_on_host/samples.h"

using depthroute::cuda::samples::Fault;

int main(int argc, char** argv) {
  struct Name {
    const char* text;
    Fault fault;
  };
  const Name names[] = {
      {"none", Fault::kNone},
      {"overwritten_too_early", Fault::kOverwrittenTooEarly},
      {"missing_barrier", Fault::kMissingBarrier},
      {"global_out_of_bounds", Fault::kGlobalOutOfBounds},
      {"static_out_of_bounds", Fault::kStaticOutOfBounds},
      {"dynamic_out_of_bounds", Fault::kDynamicOutOfBounds},
      {"misaligned", Fault::kMisaligned},
  };
  for (const Name& name : names) {
    if (argc != 2 || std::strcmp(argv[1], name.text) != 0) continue;
    const int rows = 3, cols = 516;
    const size_t bytes = sizeof(float) * rows * cols;
    const std::vector<float> host(static_cast<size_t>(rows) * cols, 1.0f);
    void* x = nullptr;
    void* y = nullptr;
    if (cudaMalloc(&x, bytes) != cudaSuccess || cudaMalloc(&y, bytes) != cudaSuccess) return 3;
    cudaMemcpy(x, host.data(), bytes, cudaMemcpyHostToDevice);
    depthroute::cuda::samples::normalize_rows(name.fault, static_cast<const float*>(x),
                                              static_cast<float*>(y), rows, cols, nullptr);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
    std::puts("nothing noticed");
    return 0;
  }
  std::fputs("usage: planted_faults FAULT\n", stderr);
  return 2;
}
