# cuDNN's plans for GPUs that are not here. The stand-in for the driver lies in a folder of its own, out of every
# program's way: the test opens it by its path.
if(DEPTHROUTE_HAVE_CUDA)
  add_library(depthroute_no_driver SHARED no_driver.cpp)
  target_link_libraries(depthroute_no_driver PRIVATE depthroute_flags)
  set_target_properties(depthroute_no_driver PROPERTIES
    OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/no_driver)
  depthroute_test(test_fused_attention_plans SOURCES test_fused_attention_plans.cpp
    LIBS depthroute_cuda depthroute_configs ${CMAKE_DL_LIBS})
  target_compile_definitions(test_fused_attention_plans PRIVATE
    DEPTHROUTE_NO_DRIVER="$<TARGET_SONAME_FILE:depthroute_no_driver>")
  add_dependencies(test_fused_attention_plans depthroute_no_driver)
endif()
