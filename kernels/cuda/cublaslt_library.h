// cuBLASLt's functions, from a library that is opened when a GPU first needs it: a process on the CPU never loads
// its 500 MB.
#pragma once

#include <cublasLt.h>

#include <string>

#include "configs/base/error.h"

namespace depthroute::cuda {

/// Of the functions' names and types cublasLt.h decides.
struct CublasLt {
  decltype(&cublasLtGetVersion) get_version;
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) algo_get_heuristic;
  decltype(&cublasLtMatmulAlgoCheck) algo_check;
  decltype(&cublasLtMatmulAlgoCapGetAttribute) algo_cap_get_attribute;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set_attribute;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set_attribute;

  std::string unavailable;  // why there is no library, or ""
};

/// Opened by the first call, which may fail (`unavailable`): the file DEPTHROUTE_CUBLASLT_LIBRARY names in the
/// environment, or the one of the headers' major version, where the loader finds it, where it was when this was
/// built, or in CUDA's usual folder.
const CublasLt& cublaslt_or_reason();
/// SystemError, with what was tried, if there is none.
const CublasLt& cublaslt();

/// Every call of cuBLASLt goes through this: a failure becomes a SystemError with the call, what it was for and
/// cuBLAS's own words. `what`: a string expression, e.g. the product's shape; evaluated only on failure.
#define DR_CUBLAS_CHECK(call, what)                                                                    \
  do {                                                                                                 \
    if (const cublasStatus_t dr_status = (call); dr_status != CUBLAS_STATUS_SUCCESS)                   \
      throw ::depthroute::SystemError(                                                                 \
          "cuBLASLt: {} ({}) from {} for {}", ::depthroute::cuda::cublaslt().status_string(dr_status), \
          ::depthroute::cuda::cublaslt().status_name(dr_status), #call, std::string(what));            \
  } while (false)

}  // namespace depthroute::cuda
