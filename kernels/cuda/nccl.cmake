# NCCL, for collectives between GPUs: found here so that configuring says whether it is; no CMake of 3.25 ships a module.
# Sets DEPTHROUTE_HAVE_NCCL, DEPTHROUTE_NCCL_INCLUDE and DEPTHROUTE_NCCL_LIBRARY. Nothing links it yet.
find_path(DEPTHROUTE_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} DOC "Folder of NCCL's nccl.h")
find_library(DEPTHROUTE_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} DOC "NCCL library")
set(DEPTHROUTE_HAVE_NCCL OFF)
if(DEPTHROUTE_NCCL_INCLUDE AND DEPTHROUTE_NCCL_LIBRARY)
  set(DEPTHROUTE_HAVE_NCCL ON)
  message(STATUS "NCCL: ${DEPTHROUTE_NCCL_LIBRARY}")
else()
  message(STATUS "NCCL: not found")
endif()
