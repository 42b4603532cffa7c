#include "kernels/device.h"

#include <omp.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "configs/base/error.h"
#include "kernels/cost/scope.h"
#include "kernels/cpu/blas_memory.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/process.h"
#include "kernels/cpu/restart.h"
#include "kernels/cuda/device.h"

namespace depthroute {

namespace {
constexpr int64_t kHugePage = int64_t{2} << 20;
}

Device resolve_device(DeviceChoice choice, Use use) {
  if (choice == DeviceChoice::cpu) return Device::cpu;
  if (choice == DeviceChoice::automatic) return cuda::unavailable().empty() ? Device::cuda : Device::cpu;
  if (cuda::built() && use == Use::planning) return Device::cuda;
  if (!cuda::unavailable().empty())
    throw ConfigError("device: cuda is not available: {}; use device: cpu or auto", cuda::unavailable());
  return Device::cuda;
}

DType working_type(Device device, Precision precision) {
  return device == Device::cuda && precision == Precision::bf16 ? DType::bf16 : DType::f32;
}

std::string describe(Device device) { return device == Device::cuda ? cuda::describe() : cpu::describe(); }

int64_t process_bytes(Device device) {
  return device == Device::cuda ? cuda::process_bytes() : cpu::process_bytes();
}

void select_device(Device device, int local_rank) {
  if (device == Device::cuda) cuda::select(local_rank);
}

void make_independent_of_threads(bool on) { cpu::make_products_independent_of_threads(on); }

Stream make_stream(Device device) {
  return device == Device::cuda ? cuda::make_stream() : Stream{device, nullptr};
}

void reserve_device(Stream stream) {
  if (stream.device == Device::cuda) cuda::reserve(stream);
}

void require_headroom(Device device) {
  if (device == Device::cuda) cuda::require_headroom();
}

void synchronize(Stream stream) {
  if (cost::counting()) return;
  if (stream.device == Device::cuda) cuda::synchronize(stream);
}

void* device_allocate(Device device, int64_t bytes) {
  DR_CHECK(bytes > 0);
  if (device == Device::cuda) return cuda::allocate(bytes);
  // mmap rounds up to pages; above this, the rounding would overflow.
  if (bytes > std::numeric_limits<int64_t>::max() - kHugePage)
    throw SystemError("cannot allocate {} bytes of memory: more than an address space holds", bytes);
  void* block =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED)
    throw SystemError(
        "cannot allocate {:.2f} GiB of memory: {}; "
        "use a smaller micro_batch, seq_len or model, or free memory",
        static_cast<double>(bytes) / (1 << 30), std::strerror(errno));
#ifdef MADV_HUGEPAGE
  // Advice only: fewer page faults and TLB misses where the kernel grants it.
  if (bytes >= kHugePage) (void)madvise(block, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  return block;
}

void device_free(Device device, void* block, int64_t bytes) {
  if (device == Device::cuda) return cuda::deallocate(block);
  if (block) DR_CHECK(munmap(block, static_cast<size_t>(bytes)) == 0);
}

void* reserve_addresses(int64_t bytes) {
  DR_CHECK(bytes > 0);
  void* block = MAP_FAILED;
  if (bytes <= std::numeric_limits<int64_t>::max() - kHugePage)
    block = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
  if (block == MAP_FAILED) throw SystemError("cannot plan {} bytes: more than an address space holds", bytes);
  return block;
}

void release_addresses(void* block, int64_t bytes) {
  DR_CHECK(munmap(block, static_cast<size_t>(bytes)) == 0);
}

void prepare_process(char** argv) {
  cpu::check_instruction_sets();
  cpu::restart_with_better_settings(argv);
  // In attention, each thread computes products of its own.
  cpu::reserve_blas_memory(omp_get_max_threads());
}

}  // namespace depthroute
