# What can be known of the CUDA backend without a GPU: cuDNN's plans, its libraries, its kernels' architectures. The stand-in for the driver lies in a folder of its own, out of every
# program's way: the test opens it by its path.
if(DEPTHROUTE_HAVE_CUDA)
  add_library(depthroute_no_driver SHARED no_driver.cpp)
  target_link_libraries(depthroute_no_driver PRIVATE depthroute_flags)
  set_target_properties(depthroute_no_driver PROPERTIES
    OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/no_driver)
  depthroute_test(test_fused_attention_plans SOURCES test_fused_attention_plans.cpp
    test_fused_attention_rules.cpp
    LIBS depthroute_cuda depthroute_configs ${CMAKE_DL_LIBS})
  target_compile_definitions(test_fused_attention_plans PRIVATE
    DEPTHROUTE_NO_DRIVER="$<TARGET_SONAME_FILE:depthroute_no_driver>" $<$<BOOL:${DEPTHROUTE_HAVE_CUDNN}>:DEPTHROUTE_HAVE_CUDNN>)
  add_dependencies(test_fused_attention_plans depthroute_no_driver)
  # What the program holds is what DEPTHROUTE_CUDA_ARCHITECTURES says, for every kernel.
  if(NOT CMAKE_CUDA_ARCHITECTURES MATCHES "native|all")
    add_test(NAME kernels.architectures COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1
      python3 ${CMAKE_CURRENT_SOURCE_DIR}/check_architectures.py $<TARGET_FILE:test_fused_attention_plans>
      ${CMAKE_CUDA_ARCHITECTURES})
  endif()
endif()
