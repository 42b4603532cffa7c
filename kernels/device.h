// Devices: which there are, their memory, and the stream work is ordered on. The only place besides ops.h
// that knows more than one device exists; training and evaluation code passes a Stream on and never asks.
#pragma once

#include <cstdint>
#include <string>

#include "configs/terms.h"
#include "kernels/tensor.h"

namespace depthroute {

/// Work given to one stream runs in order. On the CPU every call has finished when it returns.
struct Stream {
  Device device = Device::cpu;
  void* handle = nullptr;  // cudaStream_t on cuda
};

/// What a device is wanted for: planning sizes needs no GPU, only a build with CUDA.
enum class Use : uint8_t { computing, planning };
/// A device of this machine; `automatic` is a GPU if there is one. ConfigError if unavailable.
Device resolve_device(DeviceChoice choice, Use use = Use::computing);

/// Dtype of activations and working weights: f32 on the CPU regardless of `precision`.
DType working_type(Device device, Precision precision);

/// One line about the device for logs and results, e.g. "cpu: 2 threads, OpenBLAS SkylakeX".
std::string describe(Device device);

/// What the process itself takes of the device's memory beside arenas: program, libraries, their buffers. An
/// estimate.
int64_t process_bytes(Device device);

/// Which of the machine's GPUs this process computes on: number local_rank, counted round where there are
/// fewer. Before anything else is done on the device. Other threads find it by make_stream() or
/// device_allocate().
void select_device(Device device, int local_rank);

/// On the CPU from now on: the same bits whatever the number of threads, at some cost in matrix products (the
/// only op that differs). GPUs: the ops' own arguments.
void make_independent_of_threads(bool on);

Stream make_stream(Device device);
void synchronize(Stream stream);

/// Zero-filled memory, 256-byte aligned. Throws SystemError naming the size if there is too little.
void* device_allocate(Device device, int64_t bytes);
void device_free(Device device, void* block, int64_t bytes);

/// Call in main() before any other thread or MPI is started: may start the program again, with better
/// settings for this machine (idle threads that sleep; OpenBLAS kernels for AVX-512 where an older OpenBLAS
/// would choose others, at half the speed) unless the user has set them. Throws SystemError if the processor
/// lacks an instruction set the program was built for, or if there is no room for OpenBLAS's buffers.
void prepare_process(char** argv);

}  // namespace depthroute
