#include "kernels/collectives/world.h"

#include <errno.h>

#include <cstdlib>
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
  [[noreturn]] void abort(int status) override { std::_Exit(status); }

 private:
  void do_barrier() override {}
  std::string do_broadcast(const std::string& bytes) override { return bytes; }
  std::vector<std::string> do_gather(const std::string& bytes) override { return {bytes}; }
  std::unique_ptr<Collectives> do_make_collectives(Device device,
                                                   const CollectivesOptions& options) override {
    // NCCL only if asked for by name: to see whether it works here.
    if (device == Device::cuda && options.backend == CollectiveBackend::nccl && use_nccl(*this, options))
      return make_nccl_collectives(*this, options);
    return make_single_collectives();
  }
};

Failure with_rank(const Failure& failure, int rank) {
  return {failure.status, fmt::format("rank {}: {}", rank, failure.text)};
}

[[noreturn]] void throw_failure(const Failure& failure) {
  if (failure.status == kExitBadInput) throw InputError(failure.text);
  if (failure.status == kExitInterrupted) throw Interrupted(failure.text);
  throw SystemError(failure.text);
}

}  // namespace

World::Verdict World::exchange(const Failure* mine) {
  // Rank 0 sees all failures and decides; the verdict travels as "<rank> <status> <1 if all failed alike>".
  const std::vector<std::string> all =
      do_gather(mine ? fmt::format("{} {}", mine->status, mine->text) : std::string());
  int speaker = -1;
  bool alike = true;
  for (int r = 0; r < static_cast<int>(all.size()); ++r) {
    if (speaker < 0 && !all[r].empty()) speaker = r;
    alike = alike && all[r] == all[0];
  }
  const int status = speaker < 0 ? 0 : std::atoi(all[speaker].c_str());
  std::istringstream agreed(do_broadcast(fmt::format("{} {} {}", speaker, status, alike ? 1 : 0)));
  Verdict verdict;
  agreed >> verdict.speaker >> verdict.status >> verdict.alike;
  if (verdict.speaker >= 0) leaving_ = true;
  return verdict;
}

void World::check() {
  if (size_ == 1) return;
  const Verdict verdict = exchange(nullptr);
  if (verdict.speaker >= 0) throw QuietExit{verdict.status};
}

Failure World::share_failure(const Failure& failure) {
  const Verdict verdict = exchange(&failure);
  if (verdict.speaker != rank_) throw QuietExit{verdict.status};
  return verdict.alike ? failure : with_rank(failure, rank_);
}

void World::barrier() {
  check();  // nobody gets past it before all have come
}

std::string World::broadcast(const std::string& bytes) {
  check();
  return do_broadcast(bytes);
}

int64_t World::broadcast(int64_t value) { return std::stoll(broadcast(std::to_string(value))); }

std::vector<std::string> World::gather(const std::string& bytes) {
  check();
  return do_gather(bytes);
}

std::unique_ptr<Collectives> World::make_collectives(Device device, const CollectivesOptions& options) {
  std::unique_ptr<Collectives> made = do_make_collectives(device, options);
  has_bulk_ = true;
  return made;
}

void World::together(const std::function<void()>& body) {
  if (size_ == 1) return body();
  try {
    body();
  } catch (const CollectiveTimeout&) {
    throw;  // nobody would answer
  } catch (const QuietExit&) {
    throw;  // agreed on already
  } catch (...) {
    const Failure mine = current_failure();
    const Failure said = share_failure(mine);
    if (said.text == mine.text) throw;
    throw_failure(said);
  }
  check();
}

void World::require_equal(const std::string& what, const std::string& value) {
  const std::vector<std::string> all = gather(value);
  together([&] {
    for (int r = 1; r < static_cast<int>(all.size()); ++r)
      if (all[r] != all[0])
        throw DataError("{}: rank 0 has {}, rank {} has {}: all ranks must see the same files", what, all[0],
                        r, all[r]);
  });
}

namespace {

/// Deals with an exception of run_in_world's body, in a catch block. Returns the exit status.
/// `others_answer`: no collective has timed out. The line is printed here, not by the caller: once one rank
/// ends with a status, mpirun ends the others, and they may be faster at it than the caller of the rank that
/// speaks.
int leave(World& world, bool others_answer) {
  if (world.size() == 1) throw;
  Failure failure = current_failure();
  if (!world.leaving()) {  // else agreed on, and its message is complete
    const Failure alone = with_rank(failure, world.rank());
    try {
      failure = others_answer && !world.must_abort() ? world.share_failure(failure) : alone;
    } catch (const QuietExit&) {
      throw;
    } catch (...) {  // nobody answered
      failure = alone;
    }
  }
  report(program_invocation_short_name, failure);
  if (!world.leaving()) world.abort(failure.status);
  return failure.status;
}

int run_body(World& world, const std::function<int(World&)>& body) {
  try {
    const int status = body(world);
    if (!world.must_abort()) world.barrier();  // learns of a rank that failed after its last collective
    return status;
  } catch (const QuietExit&) {
    throw;
  } catch (const CollectiveTimeout&) {
    return leave(world, false);
  } catch (...) {
    return leave(world, true);
  }
}

}  // namespace

int run_in_world(const std::function<int(World&)>& body) {
  const std::unique_ptr<World> world = make_world();
  try {
    return run_body(*world, body);
  } catch (const QuietExit& exit) {
    return exit.status;
  }
}

std::unique_ptr<Collectives> make_single_collectives() { return std::make_unique<SingleCollectives>(); }

std::unique_ptr<World> make_single_world() { return std::make_unique<SingleWorld>(); }

}  // namespace depthroute
