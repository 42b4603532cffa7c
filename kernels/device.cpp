#include "kernels/device.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "configs/base/error.h"
#include "kernels/cpu/process.h"

namespace depthroute {

namespace {

void check_cpu(Device device) {
  DR_CHECK_MSG(device == Device::cpu, "this build has no backend for the device");
}

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

Device resolve_device(const std::string& name) {
  if (name == "auto" || name == "cpu") return Device::cpu;
  if (name == "cuda")
    throw ConfigError(
        "device: cuda is not available: this program was built without CUDA; use device: cpu or auto");
  throw ConfigError("device: '{}' is no device; use auto, cpu or cuda", name);
}

std::string describe(Device device) {
  check_cpu(device);
  return cpu::describe();
}

int64_t process_bytes(Device device) {
  check_cpu(device);
  return cpu::process_bytes();
}

Stream make_stream(Device device) {
  check_cpu(device);
  return Stream{device, nullptr};
}

void synchronize(Stream stream) { check_cpu(stream.device); }

void* device_allocate(Device device, int64_t bytes) {
  check_cpu(device);
  DR_CHECK(bytes > 0);
  // mmap rounds up to pages; beyond this the rounding would overflow.
  if (bytes > std::numeric_limits<int64_t>::max() - kHugePage)
    throw SystemError("cannot allocate {} bytes of memory: more than an address space holds", bytes);
  void* block =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED)
    throw SystemError(
        "cannot allocate {:.2f} GiB of memory: {}; use a smaller micro_batch, seq_len or model, or free "
        "memory",
        static_cast<double>(bytes) / (1 << 30), std::strerror(errno));
#ifdef MADV_HUGEPAGE
  // Advice only: fewer page faults and TLB misses where the kernel grants it.
  if (bytes >= kHugePage) (void)madvise(block, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  return block;
}

void device_free(Device device, void* block, int64_t bytes) {
  check_cpu(device);
  if (block) DR_CHECK(munmap(block, static_cast<size_t>(bytes)) == 0);
}

void prepare_process(char** argv) {
  cpu::check_instruction_sets();
  cpu::restart_with_better_blas(argv);
}

}  // namespace depthroute
