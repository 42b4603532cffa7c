// The parts of collectives_worker.
#pragma once

#include <cstdint>
#include <string>

#include "configs/base/error.h"
#include "kernels/collectives/collectives.h"
#include "kernels/collectives/world.h"

namespace depthroute::worker {

struct Options {
  Device device = Device::cpu;
  CollectivesOptions collectives;
  int64_t max_message = 0;  // bytes per message of MPI; 0: as it is
  std::string what;         // a case's own
};

// collectives_cases.cpp
void check_collectives(World& world, const Options& options);
void check_many_in_flight(World& world, const Options& options);
void print_tree(World& world, const Options& options);
void measure_speed(World& world, const Options& options);

// world_cases.cpp
void check_control_plane(World& world, const Options& options);
void together(World& world, const Options& options);
void fail_before(World& world, const Options& options);
void require_equal(World& world, const Options& options);
void missing(World& world, const Options& options);
void lonely_failure(World& world, const Options& options);
void wait_for_signals(World& world, const Options& options);

}  // namespace depthroute::worker
