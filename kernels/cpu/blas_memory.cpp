#include "kernels/cpu/blas_memory.h"

#include <cblas.h>
#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "configs/base/error.h"

extern "C" {
// Exported by every OpenBLAS, declared in none of its headers.
__attribute__((weak)) void* blas_memory_alloc(int where);
__attribute__((weak)) void blas_memory_free(void* buffer);
}

namespace depthroute::cpu {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
// A buffer on x86-64 and ARM64 is 128 MiB and a page. Only address space until it is used.
constexpr size_t kBufferBytes = 129 * kMiB;

constexpr const char* kRemedy = "raise ulimit -v (and -d), or set OMP_NUM_THREADS lower";

/// Returns whether the system and this process's limits (RLIMIT_AS, RLIMIT_DATA) leave so much room, by
/// mapping that much and unmapping it.
bool has_room(size_t bytes) {
  // MAP_NORESERVE: more than the machine's memory is allowed, as it would be in many small pieces.
  void* block =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return false;
  munmap(block, bytes);
  return true;
}

}  // namespace

void reserve_blas_memory(int at_once) {
  static int reserved = 0;
  if (at_once <= reserved || blas_memory_alloc == nullptr || blas_memory_free == nullptr) return;
  constexpr int kOpenMpBuild = 2;
  const int threads = omp_get_max_threads();
  // One more for each of its own threads that it did not count when it was loaded.
  const bool grows = openblas_get_parallel() == kOpenMpBuild && threads > openblas_get_num_threads();
  const int buffers = at_once - reserved + (grows ? threads - openblas_get_num_threads() : 0);
  const size_t bytes = static_cast<size_t>(buffers) * kBufferBytes;
  if (!has_room(bytes))
    throw SystemError("OpenBLAS needs {} MiB of address space (threads: {}) and there is no room: {}",
                      bytes / kMiB, threads, kRemedy);
  if (grows) openblas_set_num_threads(threads);
  std::vector<void*> taken(static_cast<size_t>(at_once));
  for (void*& buffer : taken) buffer = blas_memory_alloc(0);
  // OpenBLAS keeps freed buffers for its next products.
  for (void* buffer : taken) blas_memory_free(buffer);
  reserved = at_once;
}

// Not under sanitizers: they have a preinit function of their own, which must come first.
#if defined(__has_feature)
#define DR_HAS_FEATURE(name) __has_feature(name)
#else
#define DR_HAS_FEATURE(name) 0
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !DR_HAS_FEATURE(address_sanitizer) && \
    !DR_HAS_FEATURE(thread_sanitizer) && !DR_HAS_FEATURE(memory_sanitizer)
namespace {

/// Returns how many threads OpenBLAS will count when it is loaded; at most what Debian's build has room for.
int threads_at_load(char** environment) {
  constexpr int kMostThreads = 64;
  cpu_set_t processors;
  CPU_ZERO(&processors);
  int threads = kMostThreads;
  if (sched_getaffinity(0, sizeof(processors), &processors) == 0)
    threads = std::min(threads, CPU_COUNT(&processors));
  for (const char* name : {"OPENBLAS_NUM_THREADS=", "GOTO_NUM_THREADS=", "OMP_NUM_THREADS="}) {
    const size_t length = std::strlen(name);
    for (char** variable = environment; *variable != nullptr; ++variable)
      if (std::strncmp(*variable, name, length) == 0)
        if (const int wanted = std::atoi(*variable + length); wanted > 0) return std::min(threads, wanted);
  }
  return threads;
}

/// Runs before the constructors of all libraries; only the C library can be relied upon.
void require_room_before_load(int, char** arguments, char** environment) {
  const int threads = threads_at_load(environment);
  // One more for the calling thread; the rest is for the other libraries.
  const size_t bytes = static_cast<size_t>(threads + 1) * kBufferBytes;
  if (has_room(bytes)) return;
  const char* program = arguments[0] == nullptr ? "depthroute" : arguments[0];
  if (const char* slash = std::strrchr(program, '/')) program = slash + 1;
  char line[512];
  const int size = std::snprintf(
      line, sizeof(line),
      "%s: error: OpenBLAS needs %zu MiB of address space (threads: %d) and there is no room: %s\n", program,
      bytes / kMiB, threads, kRemedy);
  (void)!write(STDERR_FILENO, line, static_cast<size_t>(std::clamp(size, 0, static_cast<int>(sizeof(line)))));
  _exit(kExitFailure);
}

[[gnu::used, gnu::section(".preinit_array")]] void (*before_load)(int, char**,
                                                                  char**) = require_room_before_load;

}  // namespace
#endif

}  // namespace depthroute::cpu
