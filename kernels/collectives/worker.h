// A thread that makes calls in the order they were submitted, and lets others wait for them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "kernels/collectives/collectives.h"

namespace depthroute {

class Worker {
 public:
  using Ticket = Collectives::Ticket;

  /// The thread first runs `prepare`. A call that waits must poll *give_up and throw once it is true.
  Worker(std::function<void()> prepare, std::atomic<bool>& give_up);
  /// Makes the remaining calls; while an exception passes through, gives up after a few seconds.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Returns 1, 2, ... Throws what an earlier call threw: none is made after one that failed.
  Ticket submit(std::function<void()> call);
  /// Blocks until that call and all before it are over. Throws what one of them threw.
  void wait(Ticket ticket);
  void rethrow_error();

  /// The owner counts the bytes.
  Collectives::Statistics statistics() const;

 private:
  void run();

  mutable std::mutex mutex_;
  std::condition_variable wake_, over_;
  std::deque<std::function<void()>> calls_;
  Ticket submitted_ = 0, finished_ = 0;
  bool ending_ = false;
  std::atomic<bool>& give_up_;
  std::exception_ptr error_;
  Collectives::Statistics statistics_;
  std::function<void()> prepare_;
  std::thread thread_;
};

}  // namespace depthroute
