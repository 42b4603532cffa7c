#include "kernels/collectives/backoff.h"

#include <fmt/format.h>
#include <sched.h>
#include <time.h>

#include <algorithm>

#include "kernels/collectives/world.h"

namespace depthroute {

namespace {
constexpr int kYields = 200;
constexpr int64_t kFirstNap = 10'000, kLongestNap = 1'000'000, kLongestBulkNap = 50'000;  // ns

/// Monotonic seconds.
double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

Pause::Pause(const Patience& patience)
    : patience_(patience), deadline_(now() + patience.timeout), yields_left_(kYields), nap_ns_(kFirstNap) {}

void Pause::rest() {
  if (yields_left_ > 0) {
    --yields_left_;
    sched_yield();
    return;
  }
  if (patience_.give_up && patience_.give_up->load())
    throw CollectiveTimeout(fmt::format("{} was given up: this process is leaving", patience_.call));
  if (now() > deadline_)
    throw CollectiveTimeout(
        fmt::format("waited {:g} s for the other processes in {}: one of them died or hangs",
                    patience_.timeout, patience_.call));
  const timespec nap = {0, nap_ns_};
  nanosleep(&nap, nullptr);
  nap_ns_ = std::min(nap_ns_ + nap_ns_ / 2, patience_.bulk ? kLongestBulkNap : kLongestNap);
}

}  // namespace depthroute
