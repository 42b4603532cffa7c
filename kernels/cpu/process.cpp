#include "kernels/cpu/process.h"

#include <cblas.h>
#include <omp.h>

#include "configs/base/error.h"

namespace depthroute::cpu {

std::string describe() {
  return fmt::format("cpu: {} threads, OpenBLAS {}", omp_get_max_threads(), openblas_get_corename());
}

int64_t process_bytes() {
  // Measured at the 100M shape: 110 MiB with one thread, 157 with two. depthroute-bench-step prints this and
  // what is really used.
  constexpr int64_t kMiB = int64_t{1} << 20;
  return (63 + 47 * omp_get_max_threads()) * kMiB;
}

void check_instruction_sets() {
#if defined(__x86_64__)
  [[maybe_unused]] const auto require = [](bool has, const char* name) {
    if (!has)
      throw SystemError(
          "this processor lacks {}, which the program was built for; "
          "rebuild with -DDEPTHROUTE_CPU_ARCH=x86-64-v2",
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

}  // namespace depthroute::cpu
