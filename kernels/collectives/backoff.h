// Waiting for what others do by looking now and then, for a limited time.
#pragma once

#include <atomic>
#include <cstdint>

namespace depthroute {

struct Patience {
  const char* call;                            // what is waited for, for the message
  double timeout;                              // seconds
  const std::atomic<bool>* give_up = nullptr;  // somebody wants this thread to end
  /// Data is moving, and every look moves some, rather than others being waited for: naps are short.
  bool bulk = false;
};

/// What to do between looks: yield at first, then nap, longer each time.
class Pause {
 public:
  explicit Pause(const Patience& patience);
  /// Throws CollectiveTimeout when time is up.
  void rest();

 private:
  Patience patience_;
  double deadline_;
  int yields_left_;
  int64_t nap_ns_;
};

}  // namespace depthroute
