// The state of the running block, shared by the scheduler (emulator.cpp) and the barriers and collectives
// that threads wait for (collectives.cpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/cuda_on_host/context.h"
#include "tests/cuda_on_host/emulator.h"

namespace depthroute::cuda::emulator {

inline constexpr uint32_t kLanes = 32;

enum class State : uint8_t { kNew, kReady, kAtBarrier, kInCollective, kEnded };

struct Thread {
  uint3 index{};
  uint32_t rank = 0;
  State state = State::kNew;
  Fiber* fiber = nullptr;
  // What the thread passes to a collective, and the result of that or of a barrier.
  uint64_t value = 0;
  int operand = 0;
  int width = 0;
  uint64_t result = 0;
};

/// Where the lanes of one mask meet. It alternates between two synchronization addresses, so that a lane that
/// is one meeting ahead does not publish its later work to lanes that are still leaving the earlier one.
struct Meeting {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  Collective kind{};
  int turn = 0;
  char sync[2]{};
};

struct Warp {
  uint32_t lanes = 0;  // those that exist: the last warp of a block may have fewer than 32
  uint32_t ended = 0;
  uint32_t used = 0;                     // number of meetings that have had a mask
  std::array<Meeting, kLanes> meetings;  // a lane waits in one meeting, so 32 are enough for any masks
};

struct BlockBarrier {
  Barrier kind{};
  uint32_t arrived = 0;
  uint32_t predicates = 0;  // how many of the arrived threads have a true predicate
  int turn = 0;
  char sync[2]{};
};

/// The running block. One per process: CUDA threads find it through block_state.
struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  BlockBarrier barrier;
  uint32_t ended = 0;
  void* shared = nullptr;
  Thread* running = nullptr;
  const std::function<void()>* body = nullptr;
  Fiber host;
  char sync[2]{};  // orders blocks, which share static memory; alternating as above
  int turn = 0;
};
extern Block& block_state;

/// Prints "cuda_on_host: ..." as one line and aborts.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

/// "(1,2,3)" and "thread (1,2,3) of block (4,5,6)" for messages.
std::string place(const uint3& at);
std::string place(const Thread& thread);

/// Marks `thread` as ended and resumes threads that waited only for it; fails if others wait for it in vain.
void end_thread(Thread& thread);

}  // namespace depthroute::cuda::emulator
