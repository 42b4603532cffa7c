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

}  // namespace depthroute::cpu
