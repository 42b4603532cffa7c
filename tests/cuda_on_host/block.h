// The running block's state, shared by the scheduler (emulator.cpp) and what threads wait for
// (collectives.cpp).
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
  // What it asks of a collective, and what it or a barrier answered.
  uint64_t value = 0;
  int operand = 0;
  int width = 0;
  uint64_t result = 0;
};

/// Where the lanes of one mask meet. Two synchronisation addresses by turns: a lane that is one meeting ahead
/// must not publish its later work to those that only now leave the earlier one.
struct Meeting {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  Collective kind{};
  int turn = 0;
  char sync[2]{};
};

struct Warp {
  uint32_t lanes = 0;  // that exist: fewer than 32 at the end of some blocks
  uint32_t ended = 0;
  uint32_t used = 0;                     // meetings that have had a mask
  std::array<Meeting, kLanes> meetings;  // one lane waits in one meeting, so 32 are enough for any masks
};

struct BlockBarrier {
  Barrier kind{};
  uint32_t arrived = 0;
  uint32_t predicates = 0;  // how many of the arrived said yes
  int turn = 0;
  char sync[2]{};
};

/// The block that is running. One per process: CUDA threads find it through block_state.
struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  BlockBarrier barrier;
  uint32_t ended = 0;
  void* shared = nullptr;
  Thread* running = nullptr;
  const std::function<void()>* body = nullptr;
  Fiber host;
  char sync[2]{};  // orders whole blocks, which share static memory; by turns as above
  int turn = 0;
};
extern Block& block_state;

/// Prints "cuda_on_host: ..." as one line and aborts.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

/// "(1,2,3)" and "thread (1,2,3) of block (4,5,6)" for messages.
std::string place(const uint3& at);
std::string place(const Thread& thread);

/// Marks `thread` ended and lets go on whoever waited only for it; fails if others wait for it in vain.
void end_thread(Thread& thread);

}  // namespace depthroute::cuda::emulator
