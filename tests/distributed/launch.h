// Runs a built program in several processes under mpirun, and does things to single ones of them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/program.h"

namespace depthroute::testing_support {

/// Whether mpirun was found when the tests were configured, and MPI was built in.
bool have_mpi();
#define DR_SKIP_WITHOUT_MPI()                     \
  if (!::depthroute::testing_support::have_mpi()) \
  GTEST_SKIP() << "built without MPI, or mpirun was not found when this was configured"

class MpiJob {
 public:
  /// Starts DEPTHROUTE_BIN_DIR/<program> `processes` times with one thread each; output goes to files in
  /// `folder`. `environment`: "NAME=value", for all processes.
  MpiJob(int processes, const std::string& program, const std::vector<std::string>& arguments,
         const std::string& folder, const std::vector<std::string>& environment = {});
  ~MpiJob();  // ends what still runs
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  /// Process ids by rank. Blocks until all run the program; empty if the job ended before.
  std::vector<pid_t> ranks();
  /// To one rank, or with rank -1 to mpirun.
  void send(int rank, int signal);
  /// Blocks until `text` stands in the job's standard output; false if the job ended without.
  bool wait_for_output(const std::string& text);
  /// The status is mpirun's. Fails the test and ends the job if that takes longer than `limit` seconds.
  Result wait(double limit = 300);

 private:
  bool running();
  void end();

  int processes_;
  std::string folder_, program_;
  // mpirun's files. In a folder that jobs share, one that ends may delete what another is making.
  std::string session_;
  pid_t mpirun_ = -1;
  int status_ = 0;
  std::vector<pid_t> ranks_;
};

/// Starts and waits.
Result run_under_mpi(int processes, const std::string& program, const std::vector<std::string>& arguments,
                     const std::string& folder, const std::vector<std::string>& environment = {});

/// Whether a process is gone within some seconds. One that has ended, and that nobody has asked for its
/// status, is gone.
bool ends(pid_t pid);

/// What the program itself said went wrong, without the program's name: mpirun adds lines of its own.
std::vector<std::string> errors_of(const Result& result);

}  // namespace depthroute::testing_support
