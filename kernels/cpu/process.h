// What the CPU backend needs of the process: instruction sets, and a description of it.
#pragma once

#include <cstdint>
#include <string>

namespace depthroute::cpu {

/// Returns e.g. "cpu: 2 threads, OpenBLAS SkylakeX".
std::string describe();

/// Estimates the resident memory besides arenas: program,
/// libraries, and OpenBLAS's buffers, which are per thread.
int64_t process_bytes();

/// Throws SystemError if the processor lacks an instruction set that the compiler was allowed to use.
void check_instruction_sets();

}  // namespace depthroute::cpu
