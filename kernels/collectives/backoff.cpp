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

Backoff::Backoff(const BackoffOptions& options)
    : options_(options), deadline_(now() + options.timeout), yields_left_(kYields), nap_ns_(kFirstNap) {}

void Backoff::rest() {
  if (yields_left_ > 0) {
    --yields_left_;
    sched_yield();
    return;
  }
  if (options_.give_up && options_.give_up->load())
    throw CollectiveTimeout(fmt::format("{} was given up: this process is leaving", options_.call));
  if (now() > deadline_)
    throw CollectiveTimeout(
        fmt::format("waited {:g} s for the other processes in {}: one of them died or hangs",
                    options_.timeout, options_.call));
  const timespec nap = {0, nap_ns_};
  nanosleep(&nap, nullptr);
  nap_ns_ = std::min(nap_ns_ + nap_ns_ / 2, options_.bulk ? kLongestBulkNap : kLongestNap);
}

}  // namespace depthroute
