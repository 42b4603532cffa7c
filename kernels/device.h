// Devices, their memory, and the stream that orders work. Apart from the ops, the only place that knows more
// than one device exists: training and evaluation pass a Stream on and never ask.
#pragma once

#include <cstdint>
#include <string>

#include "configs/terms.h"
#include "kernels/tensor.h"

namespace depthroute {

/// Orders work: what is put on one stream runs in order. On the CPU every call has finished when it returns.
struct Stream {
  Device device = Device::cpu;
  /// cudaStream_t on cuda.
  void* handle = nullptr;
};

/// What a device is wanted for: planning sizes needs no GPU, only a build with CUDA.
enum class Use : uint8_t { computing, planning };
/// Returns the device chosen; `automatic` prefers a GPU. Throws ConfigError if the device is unavailable.
Device resolve_device(DeviceChoice choice, Use use = Use::computing);

/// Returns the dtype of activations and working weights. The CPU always uses f32.
DType working_type(Device device, Precision precision);

/// Describes the device in one line for logs and results, e.g. "cpu: 2 threads, OpenBLAS SkylakeX".
std::string describe(Device device);

/// Estimates how much of the device's memory the process takes besides arenas: program, libraries, buffers. For
/// reports; a program that has called reserve_device() knows better, and Arena::allocate() fails by what is free.
int64_t process_bytes(Device device);

/// Selects the GPU this process computes on: number local_rank, modulo the number of GPUs. Call before
/// anything else is done on the device. Other threads switch to it in make_stream() or device_allocate().
void select_device(Device device, int local_rank);

/// Makes CPU results independent of the number of threads, bit for bit, at some cost in matrix products (the
/// only op that differs). GPUs take this from the ops' own arguments.
void make_independent_of_threads(bool on);

Stream make_stream(Device device);

/// Takes the device memory that everything but arenas needs, as far as it can be known before the first step:
/// libraries' scratch for work on `stream`, and the program's kernels, which would otherwise be loaded as they are
/// first launched. (Attention's plans are made while memory is planned.) Call before Arena::allocate(), so that a
/// plan too large for what is left fails there, with the true numbers. SystemError. Nothing to do on the CPU.
void reserve_device(Stream stream);
/// For Arena::allocate(), when it has its memory. SystemError unless the device has some left for what can only be
/// loaded in the first step.
void require_headroom(Device device);

void synchronize(Stream stream);

/// Returns zero-filled memory, 256-byte aligned. Throws SystemError naming the size if there is too little.
void* device_allocate(Device device, int64_t bytes);
void device_free(Device device, void* block, int64_t bytes);
/// Returns addresses without memory, 256-byte aligned: touching them ends the program. Throws SystemError.
void* reserve_addresses(int64_t bytes);
void release_addresses(void* block, int64_t bytes);

/// Call in main() before any other thread or MPI is started. May restart the program with better settings for
/// this machine (idle threads that sleep; OpenBLAS kernels for AVX-512 if an older OpenBLAS would choose
/// others, at half the speed), unless the user has set them. Throws SystemError if the processor lacks an
/// instruction set the program was built for, or if there is no room for OpenBLAS's buffers.
void prepare_process(char** argv);

}  // namespace depthroute
