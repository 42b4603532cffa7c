// The ranks of a job: which one this is, and small messages between them. mpirun and srun start several;
// without either there is one rank, and MPI is not touched. Bulk data goes through Collectives
// (collectives.h), which a World makes.
//
// Every call but rank(), size() and abort() is collective: all ranks make the same calls in the same order,
// each from one thread. Waiting for a rank that never comes ends with CollectiveTimeout after timeout()
// seconds.
//
// Failures travel with the calls: barrier(), broadcast() and gather() first exchange whether any rank has
// failed. A rank that throws leaves for run_in_world(), which answers the next such exchange in its place;
// there all the others learn of it and leave as well. So code between two calls may throw on any rank, and
// needs no try block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "configs/failure.h"
#include "kernels/collectives/collectives.h"

namespace depthroute {

/// Another rank did not come to a collective in time: it died, hangs, or took another path. No collective can
/// follow: report it and abort(). Exit status 1.
class CollectiveTimeout : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown on a rank that leaves because another one failed, which reports why.
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
  /// Rank and number of ranks on this machine.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  bool is_rank_0() const { return rank_ == 0; }

  double timeout() const { return timeout_; }
  void set_timeout(double seconds) { timeout_ = seconds; }

  // Each of these throws QuietExit if another rank has failed.
  void barrier();
  /// Returns rank 0's `bytes` on every rank.
  std::string broadcast(const std::string& bytes);
  int64_t broadcast(int64_t value);
  /// Returns every rank's bytes, by rank, on rank 0; empty elsewhere.
  std::vector<std::string> gather(const std::string& bytes);

  /// Runs `body` everywhere and waits until every rank has succeeded. Only needed where a failure must not be
  /// left to the next collective, because bulk collectives or something that cannot be undone come first. If
  /// it throws anywhere, the lowest rank that failed throws its own exception (with "rank k: " before the
  /// message unless all failed alike), the others throw QuietExit with its status.
  void together(const std::function<void()>& body);
  /// Ends all ranks, with a DataError on rank 0, unless they give the same `value` of `what`.
  void require_equal(const std::string& what, const std::string& value);

  /// Makes collectives on tensors of `device`. ConfigError, naming what is missing, where there are none.
  std::unique_ptr<Collectives> make_collectives(Device device, const CollectivesOptions& options);

  /// Ends all ranks of the job at once, also those that hang in a collective. Not collective.
  [[noreturn]] virtual void abort(int status) = 0;

  /// A failure has been agreed on: all ranks are leaving, and none waits for another.
  bool leaving() const { return leaving_; }
  /// Tells the others, at their next collective, that this rank has failed. Returns the failure to report if
  /// this rank is the one that speaks; throws QuietExit if another one is. For run_in_world().
  Failure share_failure(const Failure& failure);
  /// Others may be waiting for this rank in a bulk collective, where no failure travels: only abort() frees
  /// them.
  bool must_abort() const { return size_ > 1 && has_bulk_; }

 protected:
  World(int rank, int size, int local_rank, int local_size)
      : rank_(rank), size_(size), local_rank_(local_rank), local_size_(local_size) {}

  // What a kind of world provides; no failures travel with these.
  virtual void do_barrier() = 0;
  virtual std::string do_broadcast(const std::string& bytes) = 0;
  virtual std::vector<std::string> do_gather(const std::string& bytes) = 0;
  virtual std::unique_ptr<Collectives> do_make_collectives(Device device,
                                                           const CollectivesOptions& options) = 0;

 private:
  struct Verdict {
    int speaker = -1;  // lowest rank that failed; -1: none
    int status = 0;    // its exit status
    bool alike = false;
  };
  /// Exchanges this rank's failure, or nullptr, with all others.
  Verdict exchange(const Failure* mine);
  /// Throws QuietExit if a rank has failed.
  void check();

  int rank_, size_, local_rank_, local_size_;
  double timeout_ = 600;
  bool leaving_ = false;
  bool has_bulk_ = false;
};

/// Gives the ranks more time for each other while it lives: rank 0 is about to do something long by itself.
class LongWait {
 public:
  LongWait(World& world, double seconds) : world_(world), before_(world.timeout()) {
    if (seconds > before_) world.set_timeout(seconds);
  }
  ~LongWait() { world_.set_timeout(before_); }
  LongWait(const LongWait&) = delete;
  LongWait& operator=(const LongWait&) = delete;

 private:
  World& world_;
  const double before_;
};

/// Returns the world of the ranks this process was started with, from the environment that mpirun and srun
/// leave. Call prepare_process() first. ConfigError if several were started and this program has no MPI, or
/// srun started them without one.
std::unique_ptr<World> make_world();
/// Makes the world, runs `body` in it and returns its status, which is the same on every rank. A failure of
/// any rank ends all of them with one line and that rank's status. A single rank leaves its exceptions to the
/// caller.
int run_in_world(const std::function<int(World&)>& body);
/// One rank, whatever the environment says.
std::unique_ptr<World> make_single_world();

}  // namespace depthroute
