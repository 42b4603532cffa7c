#include "kernels/cpu/process.h"

#include <cblas.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "configs/base/error.h"

namespace depthroute::cpu {

std::string describe() {
  return fmt::format("cpu: {} threads, OpenBLAS {}", omp_get_max_threads(), openblas_get_corename());
}

int64_t process_bytes() {
  // Measured at the 100M shape: 110 MiB with one thread, 157 with two; depthroute-bench-step prints both
  // sides.
  constexpr int64_t kMiB = int64_t{1} << 20;
  return (63 + 47 * omp_get_max_threads()) * kMiB;
}

void check_instruction_sets() {
#if defined(__x86_64__)
  [[maybe_unused]] const auto require = [](bool has, const char* name) {
    if (!has)
      throw SystemError(
          "this processor lacks {}, which the program was built for; rebuild with "
          "-DDEPTHROUTE_CPU_ARCH=x86-64-v2",
          name);
  };
  __builtin_cpu_init();
#ifdef __AVX2__
  require(__builtin_cpu_supports("avx2"), "AVX2");
#endif
#ifdef __FMA__
  require(__builtin_cpu_supports("fma"), "FMA");
#endif
#ifdef __BMI2__
  require(__builtin_cpu_supports("bmi2"), "BMI2");
#endif
#ifdef __AVX512F__
  require(__builtin_cpu_supports("avx512f"), "AVX-512F");
#endif
#ifdef __AVX512BW__
  require(__builtin_cpu_supports("avx512bw"), "AVX-512BW");
#endif
#ifdef __AVX512DQ__
  require(__builtin_cpu_supports("avx512dq"), "AVX-512DQ");
#endif
#ifdef __AVX512VL__
  require(__builtin_cpu_supports("avx512vl"), "AVX-512VL");
#endif
#endif
}

#if defined(__x86_64__)
namespace {

constexpr const char* kCoreType = "OPENBLAS_CORETYPE";
constexpr const char* kRestarted =
    "DEPTHROUTE_RESTARTED";  // against a loop, should the library ignore kCoreType

// OpenBLAS's names of cores whose kernels use AVX2 at most.
bool is_narrow(std::string_view core) {
  constexpr std::array<std::string_view, 8> kNarrow = {
      "Haswell", "Zen", "Excavator", "Steamroller", "Piledriver", "Sandybridge", "Nehalem", "Prescott"};
  return std::find(kNarrow.begin(), kNarrow.end(), core) != kNarrow.end();
}

bool has_skylake_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

void restart_with_better_blas(char** argv) {
  if (std::getenv(kCoreType) || std::getenv(kRestarted)) return;
  if (!has_skylake_avx512() || !is_narrow(openblas_get_corename())) return;
  setenv(kCoreType, "SkylakeX", 1);
  setenv(kRestarted, "1", 1);
  execv("/proc/self/exe", argv);
  // Still here: the program goes on with the slower kernels, and so do its children.
  unsetenv(kCoreType);
  unsetenv(kRestarted);
}
#else
void restart_with_better_blas(char**) {}
#endif

}  // namespace depthroute::cpu
