// cuDNN and NVRTC, opened when a GPU is about to use them: processes on the CPU never load them, and a program starts
// without them. cudnn-frontend calls cuDNN's functions by their names; cudnn_library.cpp defines those names and
// passes each call on. (The frontend's own way of opening cuDNN would also open CUDA's runtime as a library, beside
// the one in this program, and fails where two of these are installed.)
#pragma once

#include <string>

namespace depthroute::cuda {

struct CudnnLibrary {
  std::string problem;  // why it cannot be used, in one line, or ""
  int version = 0;      // that of the file, not of the headers; 0 if it cannot be used
};

/// Opened by the first call: the file DEPTHROUTE_CUDNN_LIBRARY names in the environment, or libcudnn.so.9 where the
/// loader finds it or where it was when this was built. Also opens NVRTC, with which cuDNN compiles kernels, from
/// the file DEPTHROUTE_NVRTC_LIBRARY names or in the same way; cuDNN looks for it itself if that finds none.
const CudnnLibrary& cudnn_library();

}  // namespace depthroute::cuda
