// What tests of kernels/collectives run in several processes: `collectives_worker CASE [options]`. Every case
// checks by itself and says "ok", or throws.
#include "tests/distributed/collectives_worker.h"

#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "kernels/collectives/mpi_calls.h"

namespace depthroute::worker {

namespace {

int run(World& world, const std::string& name, const Options& options) {
  static const std::map<std::string, void (*)(World&, const Options&)> kCases = {
      {"collectives", check_collectives},
      {"in_flight", check_many_in_flight},
      {"tree", print_tree},
      {"control", check_control_plane},
      {"together", together},
      {"equal", require_equal},
      {"fail_before", fail_before},
      {"missing", missing},
      {"lonely", lonely_failure},
      {"wait", wait_for_signals},
      {"speed", measure_speed},
  };
  const auto found = kCases.find(name);
  if (found == kCases.end()) throw ConfigError("no case '{}'", name);
  if (options.max_message > 0) mpi::max_message_bytes = options.max_message;
  world.set_timeout(options.collectives.timeout);
  select_device(options.device, world.local_rank());
  found->second(world, options);
  world.barrier();
  if (world.is_rank_0()) fmt::print("ok {}\n", world.size());
  std::fflush(stdout);
  return kExitOk;
}

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--device") options.device = resolve_device(parse_or_fail<DeviceChoice>(name, value));
    if (name == "--backend") options.collectives.backend = parse_or_fail<CollectiveBackend>(name, value);
    if (name == "--timeout") options.collectives.timeout = std::atof(value.c_str());
    if (name == "--deterministic") options.collectives.deterministic = value == "true";
    if (name == "--max-message") options.max_message = std::atoll(value.c_str());
    if (name == "--what") options.what = value;
  }
  return options;
}

}  // namespace

}  // namespace depthroute::worker

int main(int argc, char** argv) {
  try {
    const std::string name = argc > 1 ? argv[1] : "";
    return depthroute::run_in_world([&](depthroute::World& world) {
      return depthroute::worker::run(world, name, depthroute::worker::options_of(argc, argv));
    });
  } catch (const depthroute::InputError& error) {
    fmt::print(stderr, "collectives_worker: error: {}\n", error.what());
    return depthroute::kExitBadInput;
  } catch (const std::exception& error) {
    fmt::print(stderr, "collectives_worker: error: {}\n", error.what());
    return depthroute::kExitFailure;
  }
}
