#include "kernels/cpu/restart.h"

#include <cblas.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace depthroute::cpu {
namespace {

// Prevents a loop if a library ignores its setting.
constexpr const char* kRestarted = "DEPTHROUTE_RESTARTED";

struct Setting {
  const char* name;
  const char* value;
};

#if defined(__x86_64__)
// OpenBLAS's names of cores whose kernels use at most AVX2.
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
#endif

std::vector<Setting> better_settings() {
  std::vector<Setting> better;
#if defined(__x86_64__)
  if (!std::getenv("OPENBLAS_CORETYPE") && has_skylake_avx512() && is_narrow(openblas_get_corename()))
    better.push_back({"OPENBLAS_CORETYPE", "SkylakeX"});
#endif
  // Each of these sets how GCC's or LLVM's threads wait.
  const bool chosen = std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT") ||
                      std::getenv("KMP_BLOCKTIME") || std::getenv("KMP_LIBRARY");
  if (!chosen && omp_get_max_threads() > 1) better.push_back({"OMP_WAIT_POLICY", "passive"});
  return better;
}

/// Signals that ask a program to stop.
sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGUSR1, SIGHUP, SIGINT}) sigaddset(&set, signal);
  return set;
}

}  // namespace

void restart_with_better_settings(char** argv) {
  const sigset_t waiting = stop_signals();
  if (!std::getenv(kRestarted)) {
    const std::vector<Setting> better = better_settings();
    if (better.empty()) return;
    for (const Setting& setting : better) setenv(setting.name, setting.value, 1);
    setenv(kRestarted, "1", 1);
    // Until main() runs again, nothing could handle them.
    sigprocmask(SIG_BLOCK, &waiting, nullptr);
    execv("/proc/self/exe", argv);
    // If execv returns (/proc is not mounted), the program
    // continues with its old settings, and so do its children.
    for (const Setting& setting : better) unsetenv(setting.name);
    unsetenv(kRestarted);
  }
  sigprocmask(SIG_UNBLOCK, &waiting, nullptr);
}

}  // namespace depthroute::cpu
