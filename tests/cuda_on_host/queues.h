// The work that the emulated device's streams have been given and that has not run yet, and the order in which
// it runs. CUDA_ON_HOST_STREAMS chooses the order; every one of them is allowed on a GPU:
//   lazy      (default) work runs when something waits for it, and then only what it depends on
//   opposite  when something is waited for, first whatever can run on all other streams
//   SEED      the next stream is drawn at random among those that can run
//   eager     work runs when it is given
// So work that lacks a dependency on another stream runs before what it needs, or after what overwrites it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace depthroute::cuda::emulator {

struct Queue;

/// A place in a queue, for events.
struct Point {
  std::weak_ptr<Queue> queue;
  bool passed = false;
  std::chrono::steady_clock::time_point when{};
};

/// One piece of work. It runs after `awaits`; afterwards `marks` has passed.
struct Work {
  std::function<void()> run;
  std::shared_ptr<Point> awaits, marks;
  /// It may wait for other processes: runs only when the caller waits for it, never just because it could.
  bool may_block = false;
};

/// What a stream has still to do, in order.
struct Queue {
  std::deque<Work> work;
};

/// Guards everything here and in the handles behind streams and events; held while work runs.
std::recursive_mutex& streams_mutex();

enum class Order { eager, lazy, opposite, random };
/// Read from the environment at every call, so that tests can change it.
Order order();
/// A number below `count` from the random sequence.
size_t draw(size_t count);

/// Queues are known from here on until nobody holds them.
std::shared_ptr<Queue> make_queue();
void push(const std::shared_ptr<Queue>& queue, Work work);
/// Run until the point has passed, until the queue is empty, until all are.
void finish(const std::shared_ptr<Point>& point);
void finish(const std::shared_ptr<Queue>& queue);
void finish_all();

}  // namespace depthroute::cuda::emulator
