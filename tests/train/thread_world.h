// The ranks of a job as threads of one process, which exchange messages through memory. For tests that need
// only a World; there are no Collectives on tensors.
#pragma once

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "configs/base/error.h"
#include "kernels/collectives/world.h"

namespace depthroute::testing_support {

/// Where the threads meet.
class ThreadHub {
 public:
  explicit ThreadHub(int size) : slots_(static_cast<size_t>(size)) {}

  /// Everybody's bytes by rank. CollectiveTimeout once somebody has left and will not come.
  std::vector<std::string> exchange(int rank, const std::string& bytes) {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    slots_[static_cast<size_t>(rank)] = bytes;
    if (++arrived_ == slots_.size()) {
      arrived_ = 0;
      ++round_;
      result_ = slots_;  // complete again only when all have come again, so after all have taken this one
      everybody_.notify_all();
    } else {
      everybody_.wait(lock, [&] { return round_ != round || left_; });
      if (round_ == round) throw CollectiveTimeout("another thread has left");
    }
    return result_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    left_ = true;
    everybody_.notify_all();
  }
  int size() const { return static_cast<int>(slots_.size()); }

 private:
  std::mutex mutex_;
  std::condition_variable everybody_;
  std::vector<std::string> slots_, result_;
  size_t arrived_ = 0;
  int64_t round_ = 0;
  bool left_ = false;
};

class ThreadWorld : public World {
 public:
  ThreadWorld(ThreadHub& hub, int rank) : World(rank, hub.size(), rank, hub.size()), hub_(hub) {}
  [[noreturn]] void abort(int status) override { std::_Exit(status); }

 private:
  void do_barrier() override { hub_.exchange(rank(), ""); }
  std::string do_broadcast(const std::string& bytes) override { return hub_.exchange(rank(), bytes)[0]; }
  std::vector<std::string> do_gather(const std::string& bytes) override {
    std::vector<std::string> all = hub_.exchange(rank(), bytes);
    if (!is_rank_0()) all.clear();
    return all;
  }
  std::unique_ptr<Collectives> do_make_collectives(Device, const CollectivesOptions&) override {
    throw ConfigError("threads have no collectives on tensors: start processes");
  }

  ThreadHub& hub_;
};

/// Shares the exception being handled with the other ranks, as run_in_world() does. Returns it on the rank
/// that speaks, or where nobody answers; nullptr elsewhere.
inline std::exception_ptr thrown_by(World& world) {
  std::exception_ptr thrown = std::current_exception();
  if (world.leaving()) return thrown;
  try {
    world.share_failure(current_failure());
  } catch (const QuietExit&) {
    return nullptr;
  } catch (const CollectiveTimeout&) {
  }
  return thrown;
}

/// Runs `body` on `size` threads as the ranks of a job. Throws what the rank that speaks has thrown, when all
/// have ended.
inline void as_processes(int size, const std::function<void(World&)>& body) {
  ThreadHub hub(size);
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadWorld world(hub, rank);
      try {
        body(world);
        world.barrier();
      } catch (const QuietExit&) {
      } catch (...) {
        thrown[static_cast<size_t>(rank)] = thrown_by(world);
      }
      hub.leave();
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& exception : thrown)
    if (exception) std::rethrow_exception(exception);
}

}  // namespace depthroute::testing_support
