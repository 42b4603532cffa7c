#include "kernels/cuda/cublaslt_library.h"

#include <fmt/format.h>

#include "kernels/shared_library.h"

namespace depthroute::cuda {
namespace {

CublasLt open() {
  const std::string file = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  SharedLibrary library(
      "cuBLASLt", "DEPTHROUTE_CUBLASLT_LIBRARY",
      {file, fmt::format("{}/{}", DEPTHROUTE_CUDA_LIBRARY_FOLDER, file), "/usr/local/cuda/lib64/" + file});
  CublasLt found = {};
  library.find("cublasLtGetVersion", &found.get_version);
  library.find("cublasLtGetStatusName", &found.status_name);
  library.find("cublasLtGetStatusString", &found.status_string);
  library.find("cublasLtCreate", &found.create);
  library.find("cublasLtMatmul", &found.matmul);
  library.find("cublasLtMatmulAlgoGetHeuristic", &found.algo_get_heuristic);
  library.find("cublasLtMatmulAlgoCheck", &found.algo_check);
  library.find("cublasLtMatmulAlgoCapGetAttribute", &found.algo_cap_get_attribute);
  library.find("cublasLtMatmulDescCreate", &found.desc_create);
  library.find("cublasLtMatmulDescDestroy", &found.desc_destroy);
  library.find("cublasLtMatmulDescSetAttribute", &found.desc_set_attribute);
  library.find("cublasLtMatrixLayoutCreate", &found.layout_create);
  library.find("cublasLtMatrixLayoutDestroy", &found.layout_destroy);
  library.find("cublasLtMatmulPreferenceCreate", &found.preference_create);
  library.find("cublasLtMatmulPreferenceDestroy", &found.preference_destroy);
  library.find("cublasLtMatmulPreferenceSetAttribute", &found.preference_set_attribute);
  found.unavailable = library.problem();
  // The structures of another major version may differ.
  if (found.unavailable.empty() && found.get_version() / 10000 != CUBLAS_VER_MAJOR)
    found.unavailable = fmt::format("cuBLASLt ({}) is of version {}, but this program needs {}",
                                    library.file(), found.get_version() / 10000, CUBLAS_VER_MAJOR);
  return found;
}

}  // namespace

const CublasLt& cublaslt_or_reason() {
  static const CublasLt opened = open();
  return opened;
}

const CublasLt& cublaslt() {
  const CublasLt& library = cublaslt_or_reason();
  if (!library.unavailable.empty()) throw SystemError("{}", library.unavailable);
  return library;
}

}  // namespace depthroute::cuda
