# Finds what fused_attention_cudnn.cpp needs: cuDNN's headers beside the CUDA toolkit or in the system's folders, and
# those of cudnn-frontend, which tools/setup.sh fetches. Sets DEPTHROUTE_HAVE_CUDNN and, if so,
# DEPTHROUTE_CUDNN_INCLUDES. Without them attention has kernels of our own (attention.cu). The library itself is opened
# when a GPU is used (cudnn_library.cpp), so the build needs none; one that is found is where a program looks last.
set(DEPTHROUTE_HAVE_CUDNN OFF)
set(cudnn_minimum 9.11)           # first without known faults in the backward pass (9.10.0, 9.10.1)
set(cudnn_frontend_minimum 1.19)  # first that plans for a device which is not there (tests)
set(cudnn_frontend_pinned 1.23.0) # what tools/setup.sh fetches

find_path(DEPTHROUTE_CUDNN_INCLUDE cudnn_version.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV CUDNN_PATH
  PATH_SUFFIXES include DOC "Folder of cuDNN's cudnn.h")
find_library(DEPTHROUTE_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR} ENV CUDNN_PATH
  PATH_SUFFIXES lib lib64 DOC "cuDNN library")
find_path(DEPTHROUTE_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h DOC "Folder of cudnn-frontend's cudnn_frontend.h"
  HINTS $ENV{XDG_DATA_HOME}/depthroute/cudnn-frontend-${cudnn_frontend_pinned}/include
        $ENV{HOME}/.local/share/depthroute/cudnn-frontend-${cudnn_frontend_pinned}/include)

# Reads `#define <prefix>_<part> <number>` for each part into <result>, joined by dots.
function(depthroute_header_version result header prefix)
  file(STRINGS ${header} lines REGEX "^#define ${prefix}")
  set(numbers "")
  foreach(part ${ARGN})
    string(REGEX MATCH "#define ${prefix}_${part} +([0-9]+)" match "${lines}")
    list(APPEND numbers "${CMAKE_MATCH_1}")
  endforeach()
  string(REPLACE ";" "." version "${numbers}")
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

if(NOT DEPTHROUTE_CUDNN_INCLUDE)
  message(STATUS "cuDNN: not found; attention runs on our own kernels")
elseif(NOT DEPTHROUTE_CUDNN_FRONTEND_INCLUDE)
  message(STATUS "cuDNN: cudnn-frontend's headers not found (run tools/setup.sh); attention runs on our own kernels")
else()
  depthroute_header_version(cudnn_version ${DEPTHROUTE_CUDNN_INCLUDE}/cudnn_version.h CUDNN MAJOR MINOR PATCHLEVEL)
  depthroute_header_version(cudnn_frontend_version ${DEPTHROUTE_CUDNN_FRONTEND_INCLUDE}/cudnn_frontend_version.h
    CUDNN_FRONTEND MAJOR_VERSION MINOR_VERSION PATCH_VERSION)
  if(cudnn_version VERSION_LESS cudnn_minimum OR cudnn_frontend_version VERSION_LESS cudnn_frontend_minimum)
    message(STATUS "cuDNN: ${cudnn_version} with cudnn-frontend ${cudnn_frontend_version} is older than "
      "${cudnn_minimum} and ${cudnn_frontend_minimum}; attention runs on our own kernels")
  else()
    set(DEPTHROUTE_HAVE_CUDNN ON)
    set(DEPTHROUTE_CUDNN_INCLUDES ${DEPTHROUTE_CUDNN_INCLUDE} ${DEPTHROUTE_CUDNN_FRONTEND_INCLUDE})
    set(cudnn_file "")
    if(DEPTHROUTE_CUDNN_LIBRARY)
      set(cudnn_file ${DEPTHROUTE_CUDNN_LIBRARY})
    endif()
    message(STATUS "cuDNN ${cudnn_version} with cudnn-frontend ${cudnn_frontend_version}: ${cudnn_file}")
    # cuDNN's functions have their own names in this file (see there): hidden from cuDNN itself.
    set_source_files_properties(cudnn_library.cpp PROPERTIES
      COMPILE_OPTIONS -fvisibility=hidden
      COMPILE_DEFINITIONS "DEPTHROUTE_CUDNN_FILE=\"${cudnn_file}\";DEPTHROUTE_NVRTC_FILE=\"${CUDA_nvrtc_LIBRARY}\";DEPTHROUTE_NVRTC_NAME=\"libnvrtc.so.${CUDAToolkit_VERSION_MAJOR}\"")
    # 70,000 lines of headers: plans as JSON are not needed (half the time and memory), nor optimisation, debugging
    # information or sanitizers inside them.
    set_source_files_properties(fused_attention_cudnn.cpp PROPERTIES
      COMPILE_DEFINITIONS CUDNN_FRONTEND_SKIP_JSON_LIB
      COMPILE_OPTIONS "-O1;-g0;-fno-sanitize=all")
  endif()
endif()
