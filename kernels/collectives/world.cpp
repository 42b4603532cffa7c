#include "kernels/collectives/world.h"

#include <errno.h>

#include <cstdlib>
#include <exception>
#include <sstream>

#include "configs/base/error.h"
#include "configs/failure.h"
#include "kernels/collectives/backends.h"

namespace depthroute {

namespace {

/// One process: every call is over when it returns, and changes nothing.
class SingleCollectives : public Collectives {
 public:
  SingleCollectives() : Collectives(0, 1) {}
  std::string describe() const override { return "1 process"; }
  int64_t reduce_scatter_workspace(int64_t) const override { return 0; }
  Ticket reduce_scatter(Stream, const Tensor&, const Tensor&) override { return 0; }
  Ticket all_gather(Stream, const Tensor&) override { return 0; }
  Ticket all_reduce(Stream, const Tensor&) override { return 0; }
  Ticket broadcast(Stream, const Tensor&, int) override { return 0; }
  void barrier() override {}
  void wait(Stream, Ticket) override {}
  void synchronize(Stream stream) override { depthroute::synchronize(stream); }
  Statistics statistics() const override { return {}; }
};

class SingleWorld : public World {
 public:
  SingleWorld() : World(0, 1, 0, 1) {}
  void barrier() override {}
  std::string broadcast(const std::string& bytes) override { return bytes; }
  std::vector<std::string> gather(const std::string& bytes) override { return {bytes}; }
  [[noreturn]] void abort(int status) override { std::_Exit(status); }
  std::unique_ptr<Collectives> make_collectives(Device device, const CollectivesOptions& options) override {
    // Only where NCCL is asked for by name: for a look at whether it works here.
    if (device == Device::cuda && options.backend == CollectiveBackend::nccl && use_nccl(*this, options))
      return make_nccl_collectives(*this, options);
    return make_single_collectives();
  }
};

/// What body() threw, in a form that travels; `thrown` is empty if it threw nothing.
Failure run(const std::function<void()>& body, std::exception_ptr& thrown) {
  try {
    body();
    return {};
  } catch (const CollectiveTimeout&) {
    throw;  // nobody would answer
  } catch (const QuietExit& exit) {
    thrown = std::current_exception();
    return {exit.status, "ended"};
  } catch (...) {
    thrown = std::current_exception();
    return current_failure();
  }
}

[[noreturn]] void rethrow_with_rank(const Failure& failure, int rank) {
  const std::string message = fmt::format("rank {}: {}", rank, failure.text);
  if (failure.status == kExitBadInput) throw InputError(message);
  if (failure.status == kExitInterrupted) throw Interrupted(message);
  throw SystemError(message);
}

}  // namespace

void World::together(const std::function<void()>& body) {
  if (size_ == 1) return body();
  std::exception_ptr thrown;
  const Failure mine = run(body, thrown);
  // The rank 0 sees all failures and says who speaks: "<rank> <status> <1 if all failed alike>".
  const std::vector<std::string> all =
      gather(thrown ? fmt::format("{} {}", mine.status, mine.text) : std::string());
  int speaker = -1;
  bool alike = true;
  for (int r = 0; r < static_cast<int>(all.size()); ++r) {
    if (speaker < 0 && !all[r].empty()) speaker = r;
    alike = alike && all[r] == all[0];
  }
  const int status = speaker < 0 ? 0 : std::atoi(all[speaker].c_str());
  std::istringstream verdict(broadcast(fmt::format("{} {} {}", speaker, status, alike ? 1 : 0)));
  int agreed_speaker = -1, agreed_status = 0, agreed_alike = 0;
  verdict >> agreed_speaker >> agreed_status >> agreed_alike;
  if (agreed_speaker < 0) return;
  leaving_ = true;
  if (agreed_speaker != rank_) throw QuietExit{agreed_status};
  if (agreed_alike) std::rethrow_exception(thrown);
  rethrow_with_rank(mine, rank_);
}

void World::require_equal(const std::string& what, const std::string& value) {
  if (size_ == 1) return;
  const std::vector<std::string> all = gather(value);
  together([&] {
    for (int r = 1; r < static_cast<int>(all.size()); ++r)
      if (all[r] != all[0])
        throw DataError("{}: rank 0 has {}, rank {} has {}: all processes must see the same files", what,
                        all[0], r, all[r]);
  });
}

namespace {

/// What to do about an exception of run_in_world's body, which is being handled. It is reported here, not by
/// the caller: once one process of a job ends with a status, mpirun ends the others, and those may be faster
/// at it than the caller of the one that has something to say.
int leave(World& world) {
  if (world.size() == 1) throw;
  Failure failure = current_failure();
  if (!world.leaving()) failure.text = fmt::format("rank {}: {}", world.rank(), failure.text);
  report(program_invocation_short_name, failure);
  if (!world.leaving()) world.abort(failure.status);
  return failure.status;
}

}  // namespace

int run_in_world(const std::function<int(World&)>& body) {
  const std::unique_ptr<World> world = make_world();
  try {
    return body(*world);
  } catch (const QuietExit& exit) {
    return exit.status;
  } catch (...) {
    return leave(*world);
  }
}

std::unique_ptr<Collectives> make_single_collectives() { return std::make_unique<SingleCollectives>(); }

std::unique_ptr<World> make_single_world() { return std::make_unique<SingleWorld>(); }

}  // namespace depthroute
