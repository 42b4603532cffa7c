// Where the time of a step goes: seconds and calls by op, collected while a benchmark asks for it. When off,
// a scope costs one test of a flag. Times are host times: on the CPU an op has finished when it returns;
// elsewhere `wait` waits for it, which removes the overlap of host and device, so a profiled step is slower
// than others.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace depthroute {

struct ProfileEntry {
  std::string_view name;  // a literal
  double seconds = 0;     // including scopes inside this one
  int64_t calls = 0;
  double flops = 0;  // only of scopes that give them
};

/// Process-wide. Only the thread that called start() records: ops are called from one thread.
struct Profile {
  static inline thread_local bool enabled = false;
  static inline std::vector<ProfileEntry> entries;
  /// Waits for the device. Called at the end of every scope, before its time is taken; nullptr if not needed.
  static inline void (*wait)() = nullptr;

  static void start() {
    entries.clear();
    entries.reserve(64);
    enabled = true;
  }
  static void stop() { enabled = false; }
  static void add(std::string_view name, double seconds, double flops) {
    for (ProfileEntry& entry : entries)
      if (entry.name == name) {
        entry.seconds += seconds;
        entry.flops += flops;
        ++entry.calls;
        return;
      }
    entries.push_back({name, seconds, 1, flops});
  }
};

/// Records the time from here to the end of the block under `name`, a literal; "" records nothing.
class ProfileScope {
 public:
  explicit ProfileScope(std::string_view name, double flops = 0) {
    if (!Profile::enabled) [[likely]]
      return;
    name_ = name;
    flops_ = flops;
    start_ = Clock::now();
  }
  ~ProfileScope() {
    if (name_.empty()) [[likely]]
      return;
    if (Profile::wait) Profile::wait();
    Profile::add(name_, std::chrono::duration<double>(Clock::now() - start_).count(), flops_);
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  std::string_view name_;
  double flops_ = 0;
  Clock::time_point start_;
};

}  // namespace depthroute
