// Waiting for what others do by looking now and then, for a limited time.
#pragma once

#include <atomic>
#include <cstdint>

namespace depthroute {

struct BackoffOptions {
  const char* call;                            // what is waited for, for the message
  double timeout;                              // seconds
  const std::atomic<bool>* give_up = nullptr;  // somebody wants this thread to end
  /// Data is moving, and every look moves some, rather than others being waited for: naps are short.
  bool bulk = false;
};

/// What to do between looks: yield at first, then nap, longer each time.
class Backoff {
 public:
  explicit Backoff(const BackoffOptions& options);
  /// Throws CollectiveTimeout when time is up.
  void rest();

 private:
  BackoffOptions options_;
  double deadline_;
  int yields_left_;
  int64_t nap_ns_;
};

}  // namespace depthroute
