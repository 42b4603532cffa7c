// A libcuda.so.1 that drives nothing. cuDNN finishes a plan by compiling its kernels and handing them to the
// driver; this one accepts them, so that plans for a described GPU can be made on any machine. Every call
// succeeds, and those that return an object in their first argument return one. It has the calls that cuDNN
// 9.19 and NVRTC 13.0 look up while making a plan.

#define SUCCEEDS(call) \
  extern "C" int call() { return 0; }
#define RETURNS_OBJECT(call)           \
  extern "C" int call(void** object) { \
    static int something;              \
    *object = &something;              \
    return 0;                          \
  }

RETURNS_OBJECT(cuLibraryGetKernel)
RETURNS_OBJECT(cuLibraryLoadData)
RETURNS_OBJECT(cuLibraryLoadFromFile)
RETURNS_OBJECT(cuModuleGetFunction)
RETURNS_OBJECT(cuModuleLoadData)
RETURNS_OBJECT(cuModuleLoadDataEx)
RETURNS_OBJECT(cuModuleLoadFatBinary)

SUCCEEDS(cuCtxGetCurrent)
SUCCEEDS(cuCtxGetDevice)
SUCCEEDS(cuCtxGetLimit)
SUCCEEDS(cuCtxPopCurrent)
SUCCEEDS(cuCtxPushCurrent)
SUCCEEDS(cuDeviceGet)
SUCCEEDS(cuDeviceGetAttribute)
SUCCEEDS(cuDeviceGetCount)
SUCCEEDS(cuDevicePrimaryCtxRelease)
SUCCEEDS(cuDevicePrimaryCtxReset)
SUCCEEDS(cuDevicePrimaryCtxRetain)
SUCCEEDS(cuDriverGetVersion)
SUCCEEDS(cuFuncGetAttribute)
SUCCEEDS(cuFuncSetAttribute)
SUCCEEDS(cuGetErrorName)
SUCCEEDS(cuGetErrorString)
SUCCEEDS(cuInit)
SUCCEEDS(cuKernelGetAttribute)
SUCCEEDS(cuKernelSetAttribute)
SUCCEEDS(cuLaunchCooperativeKernel)
SUCCEEDS(cuLaunchKernel)
SUCCEEDS(cuLaunchKernelEx)
SUCCEEDS(cuLibraryUnload)
SUCCEEDS(cuLinkAddData)
SUCCEEDS(cuLinkAddData_v2)
SUCCEEDS(cuLinkAddFile_v2)
SUCCEEDS(cuLinkComplete)
SUCCEEDS(cuLinkCreate)
SUCCEEDS(cuLinkCreate_v2)
SUCCEEDS(cuLinkDestroy)
SUCCEEDS(cuMemcpyDtoH_v2)
SUCCEEDS(cuModuleGetGlobal_v2)
SUCCEEDS(cuModuleUnload)
SUCCEEDS(cuOccupancyMaxActiveBlocksPerMultiprocessor)
SUCCEEDS(cuOccupancyMaxPotentialClusterSize)
SUCCEEDS(cuStreamGetCtx)
SUCCEEDS(cuStreamSynchronize)
SUCCEEDS(cuTensorMapEncodeTiled)

/// NVRTC would use the table that a success promises; 500 is CUDA_ERROR_NOT_FOUND.
extern "C" int cuGetExportTable() { return 500; }
