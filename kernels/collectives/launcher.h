// Reads what started this process from the environment variables that mpirun and srun set.
#pragma once

#include <string>

namespace depthroute {

struct Launch {
  std::string launcher;  // "mpirun", "srun" or "" (started by hand)
  int processes = 1;     // ranks of the job, as far as the launcher says; 0: only MPI knows
  bool has_mpi = false;  // the launcher offers what MPI_Init needs
};
/// mpirun: OMPI_COMM_WORLD_SIZE (Open MPI) or PMI_SIZE (MPICH and its kin). srun: SLURM_STEP_NUM_TASKS, with
/// PMIX_RANK or PMI_RANK if run with --mpi=pmix or pmi2. A batch script's own shell has SLURM_NTASKS
/// but no step: one process.
Launch launch_of_environment();

}  // namespace depthroute
