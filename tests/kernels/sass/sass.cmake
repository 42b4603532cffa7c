# The machine code of the kernels of kernels/cuda whose speed is memory's: check_sass.py holds it against kernels.txt.
set(disassembler_pinned 13.5.37) # what tools/setup.sh fetches
if(DEPTHROUTE_HAVE_CUDA AND "${CMAKE_CUDA_ARCHITECTURES}" MATCHES "90a")
  cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH cuda_bin)
  set(kernel_objects "$<FILTER:$<TARGET_OBJECTS:depthroute_cuda>,INCLUDE,[.]cu[.]o$>")
  add_test(NAME kernels_sass
    COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1 python3 ${CMAKE_CURRENT_LIST_DIR}/check_sass.py
      --table ${CMAKE_CURRENT_LIST_DIR}/kernels.txt --cuda-bin ${cuda_bin}
      --cuda-bin $ENV{XDG_DATA_HOME}/depthroute/cuda-disassembler-${disassembler_pinned}
      --cuda-bin $ENV{HOME}/.local/share/depthroute/cuda-disassembler-${disassembler_pinned}
      "$<FILTER:${kernel_objects},EXCLUDE,/attention>"
    COMMAND_EXPAND_LISTS)
  add_dependencies(kernels_tests depthroute_cuda)
else()
  add_test(NAME kernels_sass COMMAND ${CMAKE_COMMAND} -E echo "SKIPPED: this build has no code for sm_90a")
endif()
set_tests_properties(kernels_sass PROPERTIES TIMEOUT 120 SKIP_REGULAR_EXPRESSION "SKIPPED")
