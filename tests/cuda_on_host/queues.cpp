#include "tests/cuda_on_host/queues.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/block.h"

namespace depthroute::cuda::emulator {
namespace {

/// In the order of making.
std::vector<std::weak_ptr<Queue>>& known() {
  static auto* all = new std::vector<std::weak_ptr<Queue>>;
  return *all;
}

std::vector<std::shared_ptr<Queue>> busy_queues() {
  std::vector<std::shared_ptr<Queue>> busy;
  for (const std::weak_ptr<Queue>& each : known())
    if (std::shared_ptr<Queue> queue = each.lock(); queue && !queue->work.empty())
      busy.push_back(std::move(queue));
  return busy;
}

bool can_run(const Queue& queue) {
  if (queue.work.empty()) return false;
  const std::shared_ptr<Point>& awaits = queue.work.front().awaits;
  return !awaits || awaits->passed;
}

void run_first(Queue& queue) {
  const Work work = std::move(queue.work.front());
  queue.work.pop_front();
  if (work.run) work.run();
  if (!work.marks) return;
  work.marks->passed = true;
  work.marks->when = std::chrono::steady_clock::now();
}

/// The queue whose first work has to run next if `queue` is to get on.
std::shared_ptr<Queue> next_needed(std::shared_ptr<Queue> queue) {
  while (!can_run(*queue)) {
    queue = queue->work.front().awaits->queue.lock();
    if (!queue) fail("a stream waits for an event of a stream that is gone");
  }
  return queue;
}

/// Runs at least one piece of work that brings `queue` on; before it others, as the order will have it.
void advance(const std::shared_ptr<Queue>& queue) {
  const auto optional = [&](const std::shared_ptr<Queue>& other) {
    return other != queue && can_run(*other) && !other->work.front().may_block;
  };
  const Order chosen = order();
  if (chosen == Order::opposite)
    for (const std::shared_ptr<Queue>& other : busy_queues())
      while (optional(other)) run_first(*other);
  if (chosen == Order::random) {
    std::vector<std::shared_ptr<Queue>> choice = busy_queues();
    std::erase_if(choice, [&](const std::shared_ptr<Queue>& other) { return !optional(other); });
    choice.push_back(queue);
    if (const std::shared_ptr<Queue>& drawn = choice[draw(choice.size())]; drawn != queue)
      return run_first(*drawn);
  }
  if (!queue->work.empty()) run_first(*next_needed(queue));
}

const char* wanted_order() {
  const char* text = std::getenv("CUDA_ON_HOST_STREAMS");
  return text == nullptr ? "lazy" : text;
}

}  // namespace

std::recursive_mutex& streams_mutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

Order order() {
  const std::string text = wanted_order();
  if (text == "lazy") return Order::lazy;
  if (text == "eager") return Order::eager;
  if (text == "opposite") return Order::opposite;
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) return Order::random;
  fail("CUDA_ON_HOST_STREAMS is '%s': eager, lazy, opposite or a seed is needed", text.c_str());
}

size_t draw(size_t count) {
  static std::string seed;
  static std::mt19937_64 random;
  if (const std::string wanted = wanted_order(); wanted != seed) {
    seed = wanted;
    random.seed(std::strtoull(seed.c_str(), nullptr, 10));
  }
  return static_cast<size_t>(random() % count);
}

std::shared_ptr<Queue> make_queue() {
  const std::lock_guard lock(streams_mutex());
  auto queue = std::make_shared<Queue>();
  std::erase_if(known(), [](const std::weak_ptr<Queue>& each) { return each.expired(); });
  known().push_back(queue);
  return queue;
}

void push(const std::shared_ptr<Queue>& queue, Work work) {
  const std::lock_guard lock(streams_mutex());
  if (work.marks) work.marks->queue = queue;
  queue->work.push_back(std::move(work));
  if (order() == Order::eager) finish(queue);
}

void finish(const std::shared_ptr<Point>& point) {
  const std::lock_guard lock(streams_mutex());
  while (!point->passed) {
    const std::shared_ptr<Queue> queue = point->queue.lock();
    if (!queue) fail("an event of a stream that is gone can never pass");
    advance(queue);
  }
}

void finish(const std::shared_ptr<Queue>& queue) {
  const std::lock_guard lock(streams_mutex());
  while (!queue->work.empty()) advance(queue);
}

void finish_all() {
  const std::lock_guard lock(streams_mutex());
  const std::vector<std::shared_ptr<Queue>> busy = busy_queues();
  for (auto queue = busy.rbegin(); queue != busy.rend(); ++queue) finish(*queue);
}

}  // namespace depthroute::cuda::emulator
