#include "kernels/collectives/worker.h"

#include <chrono>
#include <utility>

#include "configs/base/check.h"

namespace depthroute {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLeaving{2};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Worker::Worker(std::function<void()> prepare, std::atomic<bool>& give_up)
    : give_up_(give_up), prepare_(std::move(prepare)), thread_([this] { run(); }) {}

Worker::~Worker() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  wake_.notify_all();
  if (std::uncaught_exceptions() > 0 &&
      !over_.wait_for(lock, kLeaving, [this] { return error_ || finished_ == submitted_; }))
    give_up_ = true;
  lock.unlock();
  thread_.join();
}

Worker::Ticket Worker::submit(std::function<void()> call) {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  calls_.push_back(std::move(call));
  wake_.notify_all();
  return ++submitted_;
}

void Worker::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  DR_CHECK(ticket <= submitted_);
  if (finished_ < ticket && !error_) {
    const Clock::time_point start = Clock::now();
    over_.wait(lock, [&] { return error_ || finished_ >= ticket; });
    statistics_.exposed_seconds += seconds_since(start);
  }
  if (finished_ < ticket) std::rethrow_exception(error_);
}

void Worker::rethrow_error() {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

Collectives::Statistics Worker::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  try {
    lock.unlock();
    prepare_();
    lock.lock();
    for (;;) {
      wake_.wait(lock, [this] { return ending_ || !calls_.empty(); });
      if (calls_.empty()) return;
      const std::function<void()> call = std::move(calls_.front());
      calls_.pop_front();
      lock.unlock();
      const Clock::time_point start = Clock::now();
      call();
      lock.lock();
      ++finished_;
      ++statistics_.calls;
      statistics_.busy_seconds += seconds_since(start);
      over_.notify_all();
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    error_ = std::current_exception();
    over_.notify_all();
  }
}

}  // namespace depthroute
