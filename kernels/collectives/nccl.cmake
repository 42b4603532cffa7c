# NCCL, for collectives between GPUs; no CMake of 3.25 ships a module. Its header is all the build needs: the library is
# opened when a program first asks for it (nccl_library.cpp). Sets DEPTHROUTE_HAVE_NCCL and DEPTHROUTE_NCCL_INCLUDE, and
# DEPTHROUTE_NCCL_LIBRARY where there is one.
find_package(CUDAToolkit QUIET)
find_path(DEPTHROUTE_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} DOC "Folder of NCCL's nccl.h")
find_library(DEPTHROUTE_NCCL_LIBRARY NAMES libnccl.so.2 nccl HINTS ${CUDAToolkit_LIBRARY_DIR} DOC "NCCL library")
set(DEPTHROUTE_HAVE_NCCL OFF)
if(CUDAToolkit_FOUND AND DEPTHROUTE_NCCL_INCLUDE)
  set(DEPTHROUTE_HAVE_NCCL ON)
  message(STATUS "NCCL: ${DEPTHROUTE_NCCL_INCLUDE}/nccl.h, ${DEPTHROUTE_NCCL_LIBRARY}")
else()
  message(STATUS "NCCL: not found")
endif()
