// Names and versions of the libraries the CUDA backend uses, for logs and results; and their memory.
#pragma once

#include <string>

#include "kernels/device.h"

namespace depthroute::cuda {

std::string describe_blas();       // "cuBLASLt 13.1.0"
std::string describe_attention();  // "cuDNN 9.19.0" or "own kernels"

/// Loads cuBLASLt and allocates what it needs for products on `stream`: its handle and 32 or 64 MiB of scratch.
/// Without this the stream's first product does it. SystemError, naming the sizes, if there is too little
/// memory.
void reserve_blas(Stream stream);

/// Loads all kernels of this program onto the current device (not those of libraries). SystemError if it has none
/// that run there.
void load_kernels();
/// Returns how many those are.
int64_t num_kernels();

}  // namespace depthroute::cuda
