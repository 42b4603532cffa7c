// A thread that makes calls one after another in the order they were submitted, and who waits for them.
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

  /// `prepare` is what the thread does first. A call that waits must look at *give_up, and end with an
  /// exception once it is true.
  Worker(std::function<void()> prepare, std::atomic<bool>& give_up);
  /// Makes the calls that are left; while an exception passes through, only those that are over within a few
  /// seconds, and then gives up.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// -> 1, 2, ... Throws what an earlier call threw; none is made after one that failed.
  Ticket submit(std::function<void()> call);
  /// Until that call and all before it are over. Throws what one of them threw.
  void wait(Ticket ticket);
  void rethrow_error();

  /// bytes is the owner's business.
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
