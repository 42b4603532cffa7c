# cmake --install BUILD --prefix DIR makes a tree that can be moved to another machine. bin/ has the programs, the benchmarks and
# the tests that run on a device; lib/ every shared library they need except the C library's, CUDA's and the driver's;
# share/depthroute/ presets, golden cases, gpu_check.sh and the text it trains on. The other machine needs a C library no older than
# this one's and, for builds with CUDA, cuBLASLt, cuDNN and a driver.
# lib/ includes MPI's library, so that one rank runs without MPI. Several ranks need the machine's own mpirun or srun, and its
# plugins, of the same series (Open MPI 4.1 for a build with 4.1); remove lib/libmpi* and lib/libopen-* to use its library too.
# Programs look for NCCL when they first use it.
if(DEPTHROUTE_FUZZ OR DEPTHROUTE_SANITIZE)
  return()
endif()

set(share share/depthroute)

# The tests run on the device that DEPTHROUTE_TEST_DEVICE names; those that use no device are not installed.
set(programs depthroute-train depthroute-eval depthroute-convert depthroute-tokenize depthroute-bench-ops depthroute-bench-step
             depthroute-compare-runs depthroute-check-shape test_ops test_model test_golden_adamw test_eval)
add_dependencies(gpu_tests ${programs})  # the test of gpu_check.sh installs them

# DT_RPATH, which unlike DT_RUNPATH also applies to the libraries of libraries.
foreach(program ${programs})
  target_link_options(${program} PRIVATE LINKER:--disable-new-dtags)
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
endforeach()

install(TARGETS ${programs} RUNTIME_DEPENDENCY_SET libraries RUNTIME DESTINATION bin)
# The run path of OpenBLAS's folder (kernels/CMakeLists.txt) is not CMake's own, so its installer leaves it in.
install(CODE "
  foreach(program IN ITEMS ${programs})
    file(RPATH_SET FILE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin/\${program}\" NEW_RPATH \"\\\$ORIGIN/../lib\")
  endforeach()")
install(RUNTIME_DEPENDENCY_SET libraries
  PRE_EXCLUDE_REGEXES
    # The C library is one piece with its loader: all of it or none.
    "^ld-linux" "^lib(c|m|mvec|pthread|dl|rt|util|resolv|anl|nsl|BrokenLocale|thread_db)\\.so" "^libnss_"
    # CUDA's, cuDNN's and NCCL's are licensed and large; the driver belongs to the machine.
    "^libcu(da|dart|blas|dnn)" "^libnv" "^libnccl"
  LIBRARY DESTINATION lib
  FRAMEWORK DESTINATION lib)

# Some libraries, like Open MPI 4's, carry run paths of their distribution and then ignore the program's.
install(CODE "
  file(GLOB libraries \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/lib*.so*\")
  foreach(library IN LISTS libraries)
    if(NOT IS_SYMLINK \"\${library}\")
      file(RPATH_REMOVE FILE \"\${library}\")
    endif()
  endforeach()")

install(PROGRAMS tools/gpu_check.sh DESTINATION ${share})
install(DIRECTORY tools/gpu_check DESTINATION ${share})
install(FILES tools/mpi_one_machine.env tools/bench_peers.py tools/bench_peers_model.py LICENSE DESTINATION ${share})
install(FILES tools/convert/modeling_depthroute.py DESTINATION ${share})  # depthroute-convert carries it, too
install(PROGRAMS tools/analyze.py tools/report.py tools/plot.py tools/tokenize_text.py tools/import_gguf.py tools/make_requests.py
  DESTINATION ${share})
install(FILES tools/packages.py tools/requirements.txt DESTINATION ${share})
install(DIRECTORY tools/analysis tools/reporting tools/plotting tools/tokenizing tools/importing tools/task_requests DESTINATION ${share}
  PATTERN "__pycache__" EXCLUDE)
install(PROGRAMS tools/slurm/train.sbatch tools/slurm/eval-array.sbatch tools/slurm/eval-merge.sbatch
                 tools/slurm/submit-eval.sh tools/slurm/train-mpirun.sh DESTINATION ${share}/slurm)
install(FILES tools/slurm/common.sh DESTINATION ${share}/slurm)
install(DIRECTORY configs/ DESTINATION ${share}/configs FILES_MATCHING PATTERN "*.yaml" PATTERN "base" EXCLUDE)
install(DIRECTORY tests/golden/ DESTINATION ${share}/golden)

# The commit at the time of installation, and a text to train on.
install(CODE "
  set(source \"${CMAKE_SOURCE_DIR}\")
  set(share \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${share}\")")
install(SCRIPT tools/install_share.cmake)
