// Every call of cuBLASLt goes through DR_CUBLAS_CHECK: a failure becomes a SystemError with the call, what it
// was for and cuBLAS's own words.
#pragma once

#include <cublasLt.h>

#include <string>

#include "configs/base/error.h"

namespace depthroute::cuda {

/// `what`: a string expression, e.g. the product's shape; evaluated only on failure.
#define DR_CUBLAS_CHECK(call, what)                                                                         \
  do {                                                                                                      \
    if (const cublasStatus_t dr_status = (call); dr_status != CUBLAS_STATUS_SUCCESS)                        \
      throw ::depthroute::SystemError("cuBLASLt: {} ({}) from {} for {}",                                   \
                                      cublasLtGetStatusString(dr_status), cublasLtGetStatusName(dr_status), \
                                      #call, std::string(what));                                            \
  } while (false)

}  // namespace depthroute::cuda
