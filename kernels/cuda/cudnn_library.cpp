// Compiled with hidden symbols: cuDNN's own calls to itself must not find the functions below.
#include "kernels/cuda/cudnn_library.h"

#include <cudnn.h>
#include <nvrtc.h>

#include "configs/base/error.h"
#include "kernels/cuda/fused_attention_rules.h"
#include "kernels/shared_library.h"

namespace depthroute::cuda {
namespace {

SharedLibrary& nvrtc_file() {
  static SharedLibrary opened("NVRTC", "DEPTHROUTE_NVRTC_LIBRARY",
                              {DEPTHROUTE_NVRTC_NAME, DEPTHROUTE_NVRTC_FILE});
  return opened;
}

SharedLibrary& cudnn_file() {
  static SharedLibrary opened("cuDNN", "DEPTHROUTE_CUDNN_LIBRARY", {"libcudnn.so.9", DEPTHROUTE_CUDNN_FILE});
  return opened;
}

/// Returns a function of a library that has been opened. SystemError if it lacks it.
template <typename Function>
Function* function_of(SharedLibrary& library, const char* name) {
  Function* function = nullptr;
  library.find(name, &function);
  if (!function) throw SystemError("{}", library.problem());
  return function;
}

CudnnLibrary open() {
  (void)nvrtc_file();  // first, so that cuDNN's own request for this name finds it
  CudnnLibrary found;
  decltype(&cudnnGetVersion) get_version = nullptr;
  cudnn_file().find("cudnnGetVersion", &get_version);
  found.problem = cudnn_file().problem();
  if (!get_version) return found;
  const auto version = static_cast<int>(get_version());
  found.problem = fused_version_refusal(version);
  if (found.problem.empty()) found.version = version;
  return found;
}

}  // namespace

const CudnnLibrary& cudnn_library() {
  static const CudnnLibrary library = open();
  return library;
}

}  // namespace depthroute::cuda

using depthroute::cuda::cudnn_file;
using depthroute::cuda::function_of;
using depthroute::cuda::nvrtc_file;

/// Defines a function of a library as a call of the same function in its file.
#define DR_FORWARD(result, file, name, parameters, arguments)               \
  extern "C" result name parameters {                                       \
    static const auto forward = function_of<decltype(name)>(file(), #name); \
    return forward arguments;                                               \
  }

// What fused_attention_cudnn.cpp calls through the frontend; a version of the frontend that calls more does not link.
DR_FORWARD(size_t, cudnn_file, cudnnGetVersion, (), ())
DR_FORWARD(const char*, cudnn_file, cudnnGetErrorString, (cudnnStatus_t status), (status))
DR_FORWARD(void, cudnn_file, cudnnGetLastErrorString, (char* message, size_t size), (message, size))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnCreate, (cudnnHandle_t * handle), (handle))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnDestroy, (cudnnHandle_t handle), (handle))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream),
           (handle, stream))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnGetStream, (cudnnHandle_t handle, cudaStream_t* stream),
           (handle, stream))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendCreateDescriptor,
           (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* made), (type, made))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t descriptor),
           (descriptor))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendFinalize, (cudnnBackendDescriptor_t descriptor),
           (descriptor))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendSetAttribute,
           (cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
            cudnnBackendAttributeType_t type, int64_t count, const void* values),
           (descriptor, name, type, count, values))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendGetAttribute,
           (const cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
            cudnnBackendAttributeType_t type, int64_t wanted, int64_t* count, void* values),
           (descriptor, name, type, wanted, count, values))
DR_FORWARD(cudnnStatus_t, cudnn_file, cudnnBackendExecute,
           (cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pointers),
           (handle, plan, pointers))

// The frontend has kernels of its own, for other operations, which it compiles with NVRTC: never called, but linked.
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcCreateProgram,
           (nvrtcProgram * program, const char* source, const char* name, int count,
            const char* const* headers, const char* const* names),
           (program, source, name, count, headers, names))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcCompileProgram,
           (nvrtcProgram program, int count, const char* const* options), (program, count, options))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcDestroyProgram, (nvrtcProgram * program), (program))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetCUBIN, (nvrtcProgram program, char* code), (program, code))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetCUBINSize, (nvrtcProgram program, size_t* size), (program, size))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetPTX, (nvrtcProgram program, char* code), (program, code))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetPTXSize, (nvrtcProgram program, size_t* size), (program, size))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetProgramLog, (nvrtcProgram program, char* log), (program, log))
DR_FORWARD(nvrtcResult, nvrtc_file, nvrtcGetProgramLogSize, (nvrtcProgram program, size_t* size),
           (program, size))
