// The processes of a job (DESIGN §4): who this one is among them, and small things they tell each other.
// Started by mpirun or srun; without either there is one process, and MPI is not touched. Bulk data goes
// through Collectives (collectives.h), which a World makes.
//
// Every call but rank(), size() and abort() is collective: all processes make it, in the same order, from one
// thread each. Waiting for a process that never comes ends with CollectiveTimeout after timeout() seconds.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/collectives/collectives.h"

namespace depthroute {

/// Another process did not come to a collective in time: it died, hangs, or took another path. Nothing
/// collective can follow: report it and abort(). Exit status 1.
class CollectiveTimeout : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// This process has nothing to say about why the job ends: another one has said it.
struct QuietExit {
  int status;
};

class World {
 public:
  virtual ~World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Among the processes of this machine.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  bool is_rank_0() const { return rank_ == 0; }

  double timeout() const { return timeout_; }
  void set_timeout(double seconds) { timeout_ = seconds; }

  virtual void barrier() = 0;
  /// rank 0's `bytes`, everywhere.
  virtual std::string broadcast(const std::string& bytes) = 0;
  /// Everybody's bytes by rank, on rank 0; empty elsewhere.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
  /// Ends all processes of the job at once, also those that hang in a collective. Not collective.
  [[noreturn]] virtual void abort(int status) = 0;

  /// Collectives on tensors of `device`. ConfigError where that is not to be had, naming what is missing.
  virtual std::unique_ptr<Collectives> make_collectives(Device device, const CollectivesOptions& options) = 0;

  /// Runs `body` everywhere. If it throws anywhere, all processes leave: the lowest rank that failed throws
  /// its own exception (with "rank k: " before the message if not all failed in the same way), the others
  /// QuietExit with its status. So a job ends with one line, and nobody waits for the dead.
  void together(const std::function<void()>& body);
  /// together() has failed: all processes are leaving, and none waits for another.
  bool leaving() const { return leaving_; }
  /// Throws DataError on all processes unless all give the same `value`: `what` differs between rank 0 and
  /// rank k.
  void require_equal(const std::string& what, const std::string& value);

 protected:
  World(int rank, int size, int local_rank, int local_size)
      : rank_(rank), size_(size), local_rank_(local_rank), local_size_(local_size) {}

 private:
  int rank_, size_, local_rank_, local_size_;
  double timeout_ = 600;
  bool leaving_ = false;
};

/// The processes this one was started with, from the environment that mpirun and srun leave. After
/// prepare_process(). ConfigError if several were started and this program has no MPI, or srun was told to
/// use none.
std::unique_ptr<World> make_world();
/// A program's body among its processes: makes the world, runs `body` and returns its status on every
/// process. What `body` throws out of together() is said by the process that speaks, and is the status of
/// all; anything else, on any process, is said in one line and ends the whole job. One process alone leaves
/// it to its caller.
int run_in_world(const std::function<int(World&)>& body);
/// One process, whatever the environment says.
std::unique_ptr<World> make_single_world();

}  // namespace depthroute
