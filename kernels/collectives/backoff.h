// Polling for what other ranks do, with growing naps, for a limited time.
#pragma once

#include <atomic>
#include <cstdint>

namespace depthroute {

struct BackoffOptions {
  const char* call;                            // what is waited for, for messages
  double timeout;                              // seconds
  const std::atomic<bool>* give_up = nullptr;  // set when this thread is to end
  /// Data is moving, and each poll moves some of it: keep naps short.
  bool bulk = false;
};

/// Rests between polls: yields at first, then naps, longer each time.
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
