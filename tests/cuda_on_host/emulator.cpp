// Runs blocks one after another, and a block's threads as fibers: passes over the block run each thread until
// it waits at a barrier or in a warp collective, or ends, until all have ended. A pass in which no thread can
// run is a deadlock.
#include "tests/cuda_on_host/emulator.h"

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/block.h"
#include "tests/cuda_on_host/context.h"
#include "tests/cuda_on_host/runtime.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace depthroute::cuda::emulator {

// Never destroyed, because other static objects of a program may still launch kernels.
Block& block_state = *new Block;

void (*after_launch)() = nullptr;

namespace {

constexpr size_t kMaxSharedBytes = 227 * 1024;  // the most one block may opt in to on sm_90

std::atomic<bool> launching = false;

// Idle fibers, the last used one first, because its stack is warm. To ThreadSanitizer a fiber is a thread,
// whose accesses are ordered, so two CUDA threads of a block must not share one: used fibers return only when
// the block has ended.
std::vector<Fiber*>& idle_fibers = *new std::vector<Fiber*>;
std::vector<Fiber*>& used_fibers = *new std::vector<Fiber*>;

/// What every fiber runs: one CUDA thread after another. Never returns.
void fiber_main() {
  enter_fiber(block_state.host);
  for (;;) {
    Thread& thread = *block_state.running;
    tsan_acquire(&block_state.sync[block_state.turn]);
    (*block_state.body)();
    end_thread(thread);
    switch_fiber(*thread.fiber, block_state.host);
  }
}

Fiber* take_fiber() {
  if (idle_fibers.empty()) {
    static size_t made = 0;
    // Never freed: a fiber's stack frame is always inside fiber_main().
    Fiber* fiber = new Fiber;
    create_fiber(*fiber, fiber_main, made++);
    return fiber;
  }
  Fiber* fiber = idle_fibers.back();
  idle_fibers.pop_back();
  return fiber;
}

void resume(Thread& thread) {
  Block& block = block_state;
  if (thread.state == State::kNew) thread.fiber = take_fiber();
  thread.state = State::kReady;
  block.running = &thread;
  threadIdx = thread.index;
  switch_fiber(block.host, *thread.fiber);
  block.running = nullptr;
  if (thread.state == State::kEnded) (under_tsan() ? used_fibers : idle_fibers).push_back(thread.fiber);
}

// ---- blocks

[[noreturn]] void report_deadlock() {
  uint32_t at_barrier = 0, in_collective = 0;
  const Thread* first_at_barrier = nullptr;
  const Thread* first_in_collective = nullptr;
  for (const Thread& thread : block_state.threads) {
    if (thread.state == State::kAtBarrier && at_barrier++ == 0) first_at_barrier = &thread;
    if (thread.state == State::kInCollective && in_collective++ == 0) first_in_collective = &thread;
  }
  std::string message = "deadlock in block " + place(blockIdx) + ": " + std::to_string(at_barrier) +
                        " threads at __syncthreads";
  if (at_barrier > 0) message += " (first: thread " + place(first_at_barrier->index) + ")";
  message += ", " + std::to_string(in_collective) + " in a warp collective";
  if (in_collective > 0) message += " (first: thread " + place(first_in_collective->index) + ")";
  fail("%s, %u ended", message.c_str(), block_state.ended);
}

/// The order in which a pass visits threads. Incorrect programs depend on it.
class ThreadOrder {
 public:
  explicit ThreadOrder(uint32_t threads) : order_(threads) {
    for (uint32_t i = 0; i < threads; ++i) order_[i] = i;
    const char* wanted = std::getenv("CUDA_ON_HOST_ORDER");
    const std::string text = wanted == nullptr ? "forward" : wanted;
    if (text == "forward") return;
    if (text == "reverse") {
      std::reverse(order_.begin(), order_.end());
      return;
    }
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) {
      fail("CUDA_ON_HOST_ORDER is '%s': forward, reverse or a seed is needed", text.c_str());
    }
    shuffle_ = true;
    random_ = std::stoull(text);
  }

  const std::vector<uint32_t>& next_block() {
    if (!shuffle_) return order_;
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[next() % i]);
    return order_;
  }

 private:
  uint64_t next() {  // splitmix64
    uint64_t z = random_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  std::vector<uint32_t> order_;
  bool shuffle_ = false;
  uint64_t random_ = 0;
};

void run_block(const std::vector<uint32_t>& order) {
  Block& block = block_state;
  for (Thread& thread : block.threads) thread.state = State::kNew;
  for (Warp& warp : block.warps) warp.ended = 0;
  block.ended = 0;
  while (block.ended < block.threads.size()) {
    bool progress = false;
    for (const uint32_t rank : order) {
      Thread& thread = block.threads[rank];
      if (thread.state != State::kNew && thread.state != State::kReady) continue;
      progress = true;
      resume(thread);
    }
    if (!progress) report_deadlock();
  }
  idle_fibers.insert(idle_fibers.end(), used_fibers.rbegin(), used_fibers.rend());
  used_fibers.clear();
  block.turn ^= 1;
}

void prepare_threads(dim3 shape) {
  Block& block = block_state;
  const uint32_t count = shape.x * shape.y * shape.z;
  block.threads.assign(count, Thread{});
  block.warps.assign((count + kLanes - 1) / kLanes, Warp{});
  block.barrier = BlockBarrier{};
  for (uint32_t rank = 0; rank < count; ++rank) {
    Thread& thread = block.threads[rank];
    thread.rank = rank;
    thread.index = {rank % shape.x, rank / shape.x % shape.y, rank / (shape.x * shape.y)};
    block.warps[rank / kLanes].lanes |= uint32_t{1} << rank % kLanes;
  }
}

void run_grid(dim3 grid, dim3 shape, size_t shared_bytes, const std::function<void()>& body) {
  if (launching.exchange(true))
    fail("two kernels at once: only one host thread may launch, and kernels may not");
  Block& block = block_state;
  prepare_threads(shape);
  ThreadOrder order(static_cast<uint32_t>(block.threads.size()));
  block.body = &body;
  blockDim = shape;
  gridDim = grid;
  adopt_host_thread(block.host);
  tsan_release(&block.sync[block.turn]);
  for (uint32_t z = 0; z < grid.z; ++z) {
    for (uint32_t y = 0; y < grid.y; ++y) {
      for (uint32_t x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        // Fresh and exactly of the requested size: AddressSanitizer sees overruns, and nothing remains of the
        // previous block.
        if (shared_bytes > 0) {
          if (posix_memalign(&block.shared, 128, shared_bytes) != 0) fail("out of memory for shared memory");
          std::memset(block.shared, 0xff, shared_bytes);
        }
        tsan_release(&block.sync[block.turn]);
        run_block(order.next_block());
        tsan_acquire(&block.sync[block.turn]);
        std::free(block.shared);
        block.shared = nullptr;
      }
    }
  }
  block.body = nullptr;
  launching = false;
  if (after_launch) after_launch();
}

void check_launch(dim3 grid, dim3 block, size_t shared_bytes) {
  const auto shape = [](dim3 d) { return place(uint3{d.x, d.y, d.z}); };
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads < 1 || threads > 1024) {
    fail("cudaErrorInvalidConfiguration: block %s: 1 to 1024 threads, z at most 64", shape(block).c_str());
  }
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    fail("cudaErrorInvalidConfiguration: grid %s: at least 1, x < 2^31, y and z <= 65535",
         shape(grid).c_str());
  }
  if (shared_bytes > kMaxSharedBytes) {
    fail("cudaErrorInvalidValue: %zu bytes of dynamic shared memory: a block may have %zu", shared_bytes,
         kMaxSharedBytes);
  }
}

}  // namespace

void fail(const char* format, ...) {
  std::fflush(stdout);
  std::fputs("cuda_on_host: ", stderr);
  std::va_list args;
  va_start(args, format);
  std::vfprintf(stderr, format, args);
  va_end(args);
  std::fputs("\n", stderr);
  std::abort();
}

std::string place(const uint3& at) {
  return "(" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}
std::string place(const Thread& thread) {
  return "thread " + place(thread.index) + " of block " + place(blockIdx);
}

void submit(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> body) {
  check_launch(grid, block, shared_bytes);
  const cudaError_t error = run_or_record(stream, [grid, block, shared_bytes, body = std::move(body)] {
    run_grid(grid, block, shared_bytes, body);
  });
  if (error != cudaSuccess) fail("launch: %s", cudaGetErrorName(error));
}

void* dynamic_shared() { return block_state.shared; }

}  // namespace depthroute::cuda::emulator
