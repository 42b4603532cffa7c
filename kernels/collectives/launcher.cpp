#include "kernels/collectives/launcher.h"

#include <cstdlib>

namespace depthroute {

namespace {

/// A positive number, or 0.
int number(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

}  // namespace

Launch launch_of_environment() {
  if (const int size = number("OMPI_COMM_WORLD_SIZE"); size > 0) return {"mpirun", size, true};
  const bool has_pmi = std::getenv("PMIX_RANK") || std::getenv("PMI_RANK");
  if (const int tasks = number("SLURM_STEP_NUM_TASKS"); tasks > 0) return {"srun", tasks, has_pmi};
  if (const int size = number("PMI_SIZE"); size > 0) return {"mpirun", size, true};
  if (has_pmi) return {"mpirun", 0, true};
  return {};
}

}  // namespace depthroute
