// The process as the CPU backend needs it: instruction sets, and the kernels OpenBLAS picked.
#pragma once

#include <cstdint>
#include <string>

namespace depthroute::cpu {

/// "cpu: 2 threads, OpenBLAS SkylakeX".
std::string describe();

/// Resident memory beside arenas: program and libraries, and the buffers OpenBLAS packs matrices into, per
/// thread.
int64_t process_bytes();

/// Throws SystemError if the processor lacks what the compiler was allowed to use.
void check_instruction_sets();

/// Where OpenBLAS runs AVX2 kernels on a processor with AVX-512, starts the program again with
/// OPENBLAS_CORETYPE set; the choice is made when the library is loaded and cannot be changed later. Returns
/// if there is nothing to mend, if the user has set OPENBLAS_CORETYPE, or if starting again is impossible.
void restart_with_better_blas(char** argv);

}  // namespace depthroute::cpu
