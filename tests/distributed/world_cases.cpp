// Cases about the processes themselves: what they tell each other, and how a job ends.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "kernels/arena.h"
#include "tests/distributed/collectives_worker.h"

namespace depthroute::worker {

namespace {

std::string text_of(int rank, int64_t size) {
  std::string text(static_cast<size_t>(size), '\0');
  for (int64_t i = 0; i < size; ++i)
    text[static_cast<size_t>(i)] = static_cast<char>(i * 7 + rank * 31 + i / 251);
  return text;
}

void require(bool holds, const std::string& what) {
  if (!holds) throw SystemError("wrong: {}", what);
}

void say_ready(World& world) {
  world.barrier();
  if (!world.is_rank_0()) return;
  fmt::print("ready\n");
  std::fflush(stdout);
}

}  // namespace

void check_control_plane(World& world, const Options&) {
  require(world.rank() >= 0 && world.rank() < world.size(), "rank");
  // All on one machine here.
  require(world.local_rank() == world.rank() && world.local_size() == world.size(), "local rank");
  for (const int64_t size : {0, 1, 100, 5000, 70001}) {
    require(world.broadcast(world.is_rank_0() ? text_of(5, size) : "not this") == text_of(5, size),
            "broadcast");
    // Of different lengths, some empty.
    const std::vector<std::string> all = world.gather(text_of(world.rank(), world.rank() % 3 * size));
    require(all.size() == (world.is_rank_0() ? static_cast<size_t>(world.size()) : 0), "gather's size");
    for (int r = 0; r < static_cast<int>(all.size()); ++r)
      require(all[r] == text_of(r, r % 3 * size), fmt::format("gather of rank {}", r));
    world.barrier();
  }
}

/// `what` is a letter per rank: "." succeeds, "i" InputError, "s" SystemError, "p" Interrupted, "I" and "S"
/// with the rank in it.
void together(World& world, const Options& options) {
  world.together([] {});
  world.together([&] {
    const char kind = options.what.at(static_cast<size_t>(world.rank()));
    const std::string alike = "the same file is missing", own = fmt::format("own trouble {}", world.rank());
    if (kind == 'i') throw DataError(alike);
    if (kind == 's') throw SystemError(alike);
    if (kind == 'p') throw Interrupted("stopped by a test");
    if (kind == 'I') throw ConfigError(own);
    if (kind == 'S') throw SystemError(own);
  });
}

/// The last rank (`what` = "alone"), or every one ("all"), fails just before each kind of call, or before the
/// end.
void fail_before(World& world, const Options& options) {
  const size_t slash = options.what.find('/');
  const std::string who = options.what.substr(0, slash), call = options.what.substr(slash + 1);
  require(world.broadcast(int64_t{7}) == 7, "broadcast of a number");
  if (who == "all" || world.rank() == world.size() - 1) throw DataError("a file is broken");
  if (call == "barrier") world.barrier();
  if (call == "broadcast") world.broadcast("x");
  if (call == "gather") world.gather("x");
  if (call == "together") world.together([] {});
  if (call == "require_equal") world.require_equal("the weather", "fine");
}

void require_equal(World& world, const Options& options) {
  world.require_equal("the weather", "fine");
  const char letter = options.what.at(static_cast<size_t>(world.rank()));
  world.require_equal("shard a.bin", fmt::format("{} tokens", letter));
}

/// The last rank never comes to the call named; the others' time runs out, and its own does not.
void missing(World& world, const Options& options) {
  Arena arena(options.device);
  Tensor x, workspace;
  arena.plan(Purpose::workspace, &x, {world.size() * int64_t{1000}});
  const std::unique_ptr<Collectives> collectives =
      world.make_collectives(options.device, options.collectives);
  arena.plan(Purpose::workspace, &workspace,
             {std::max<int64_t>(1, collectives->reduce_scatter_workspace(x.numel()))});
  arena.allocate();
  const Stream stream = make_stream(options.device);
  world.barrier();
  if (world.rank() == world.size() - 1)
    for (;;) pause();
  const std::string& what = options.what;
  if (what == "world.gather") world.gather("x");
  if (what == "world.broadcast") {
    // Its root need not wait for anybody: only the barrier after it must.
    world.broadcast("x");
    world.barrier();
  }
  if (what == "world.barrier") world.barrier();
  if (what == "barrier") collectives->barrier();
  if (what == "reduce_scatter") collectives->wait(stream, collectives->reduce_scatter(stream, x, workspace));
  if (what == "all_gather") collectives->wait(stream, collectives->all_gather(stream, x));
  if (what == "all_reduce") collectives->wait(stream, collectives->all_reduce(stream, x));
  if (what == "broadcast") collectives->wait(stream, collectives->broadcast(stream, x, 0));
  collectives->synchronize(stream);
}

/// One process fails where the others know nothing of it, while they wait for it. "pending": and has itself
/// begun what needs them.
void lonely_failure(World& world, const Options& options) {
  Arena arena(options.device);
  Tensor x;
  arena.plan(Purpose::workspace, &x, {world.size() * int64_t{1000}});
  arena.allocate();
  const std::unique_ptr<Collectives> collectives =
      world.make_collectives(options.device, options.collectives);
  if (world.rank() == world.size() - 1) {
    if (options.what == "input") throw DataError("a file is broken");
    if (options.what == "pending") collectives->all_gather(make_stream(options.device), x);
    throw std::runtime_error("something broke");
  }
  options.what == "pending" ? world.barrier() : collectives->barrier();
}

void wait_for_signals(World& world, const Options& options) {
  const std::unique_ptr<Collectives> collectives =
      world.make_collectives(options.device, options.collectives);
  say_ready(world);
  collectives->barrier();
  for (;;) {
    usleep(1000);
    collectives->barrier();
  }
}

}  // namespace depthroute::worker
