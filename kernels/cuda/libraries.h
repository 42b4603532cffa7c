// Names and versions of the libraries the CUDA backend uses, for logs and results.
#pragma once

#include <string>

namespace depthroute::cuda {

std::string describe_blas();       // "cuBLASLt 13.1.0"
std::string describe_attention();  // "cuDNN 9.19.0" or "own kernels"

}  // namespace depthroute::cuda
