// What threads wait for: the block's barrier and the warps' collectives. Tells ThreadSanitizer which accesses
// are ordered: a thread that arrives releases, a thread that leaves acquires.
#include <algorithm>
#include <string>

#include "tests/cuda_on_host/block.h"

namespace depthroute::cuda::emulator {
namespace {

Thread& running_thread(const char* caller) {
  if (block_state.running == nullptr) fail("%s called outside a kernel", caller);
  return *block_state.running;
}

void suspend(Thread& thread, State state) {
  thread.state = state;
  switch_fiber(*thread.fiber, block_state.host);
}

// ---- block barrier

int barrier_result(const BlockBarrier& barrier) {
  switch (barrier.kind) {
    case Barrier::kPlain:
      return 0;
    case Barrier::kOr:
      return barrier.predicates > 0;
    case Barrier::kAnd:
      return barrier.predicates == barrier.arrived;
    case Barrier::kCount:
      return static_cast<int>(barrier.predicates);
  }
  return 0;
}

/// Threads that have ended count as arrived, as on hardware since Volta.
void open_barrier_if_complete() {
  Block& block = block_state;
  BlockBarrier& barrier = block.barrier;
  if (barrier.arrived == 0 || barrier.arrived + block.ended < block.threads.size()) return;
  const int result = barrier_result(barrier);
  for (Thread& thread : block.threads) {
    if (thread.state != State::kAtBarrier) continue;
    thread.result = static_cast<uint64_t>(result);
    thread.state = State::kReady;
  }
  barrier.arrived = barrier.predicates = 0;
  barrier.turn ^= 1;
}

// ---- warp collectives

/// Returns the lane whose value `lane` gets; the bounds are those of PTX's shfl instruction.
uint32_t source_lane(Collective kind, uint32_t lane, int operand, int width) {
  const uint32_t segment = ~(static_cast<uint32_t>(width) - 1);
  const uint32_t first = lane & segment;
  const uint32_t last = lane | (~segment & (kLanes - 1));
  const uint32_t by = static_cast<uint32_t>(operand) & (kLanes - 1);
  switch (kind) {
    case Collective::kShuffle:
      return first | (by & ~segment);
    case Collective::kShuffleUp:
      return lane >= first + by ? lane - by : lane;
    case Collective::kShuffleDown:
      return lane + by <= last ? lane + by : lane;
    case Collective::kShuffleXor:
      return (lane ^ by) <= last ? lane ^ by : lane;
    default:
      return lane;
  }
}

Thread& thread_of(const Warp& warp, uint32_t lane) {
  return block_state.threads[static_cast<size_t>(&warp - block_state.warps.data()) * kLanes + lane];
}

/// Called when every lane of the meeting has arrived: computes all results and resumes the waiting lanes.
void close_meeting(Warp& warp, Meeting& meeting) {
  uint64_t votes = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((meeting.arrived >> lane & 1) != 0 && thread_of(warp, lane).value != 0) votes |= uint64_t{1} << lane;
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((meeting.arrived >> lane & 1) == 0) continue;
    Thread& thread = thread_of(warp, lane);
    switch (meeting.kind) {
      case Collective::kSyncWarp:
        break;
      case Collective::kBallot:
        thread.result = votes;
        break;
      case Collective::kAny:
        thread.result = votes != 0;
        break;
      case Collective::kAll:
        thread.result = votes == meeting.arrived;
        break;
      default: {
        const uint32_t source = source_lane(meeting.kind, lane, thread.operand, thread.width);
        const bool there = (meeting.arrived >> source & 1) != 0;
        thread.result = there ? thread_of(warp, source).value : ~uint64_t{0};
      }
    }
    if (thread.state == State::kInCollective) thread.state = State::kReady;
  }
  meeting.arrived = 0;
  meeting.turn ^= 1;
}

Meeting& meeting_of(Warp& warp, uint32_t mask) {
  for (uint32_t i = 0; i < warp.used; ++i) {
    if (warp.meetings[i].mask == mask) return warp.meetings[i];
  }
  if (warp.used < kLanes) {
    Meeting& fresh = warp.meetings[warp.used++];
    fresh.mask = mask;
    return fresh;
  }
  // At most 31 other lanes wait, so one of the 32 is free.
  Meeting& free = *std::find_if(warp.meetings.begin(), warp.meetings.end(),
                                [](const Meeting& meeting) { return meeting.arrived == 0; });
  free.mask = mask;
  return free;
}

bool may_miss_lanes(Collective kind) { return kind == Collective::kSyncWarp; }

void check_collective(const Thread& thread, const Warp& warp, Collective kind, uint32_t mask, int width) {
  const uint32_t lane = thread.rank % kLanes;
  if ((mask >> lane & 1) == 0) {
    fail("%s calls a warp collective with mask 0x%08x, which lacks its own lane %u", place(thread).c_str(),
         mask, lane);
  }
  if (width < 1 || width > int{kLanes} || (width & (width - 1)) != 0) {
    fail("%s calls a shuffle with width %d: a power of two up to 32 is needed", place(thread).c_str(), width);
  }
  if (may_miss_lanes(kind)) return;
  if ((mask & ~warp.lanes) != 0) {
    fail("%s calls a warp collective with mask 0x%08x, but its warp has only the lanes 0x%08x",
         place(thread).c_str(), mask, warp.lanes);
  }
  if ((mask & warp.ended) != 0) {
    fail("%s calls a warp collective with mask 0x%08x, but the lanes 0x%08x have already ended",
         place(thread).c_str(), mask, mask & warp.ended);
  }
}

}  // namespace

void end_thread(Thread& thread) {
  Block& block = block_state;
  thread.state = State::kEnded;
  ++block.ended;
  tsan_release(&block.sync[block.turn ^ 1]);
  tsan_release(&block.barrier.sync[block.barrier.turn]);

  Warp& warp = block.warps[thread.rank / kLanes];
  const uint32_t lane_bit = uint32_t{1} << thread.rank % kLanes;
  warp.ended |= lane_bit;
  for (uint32_t i = 0; i < warp.used; ++i) {
    Meeting& meeting = warp.meetings[i];
    if (meeting.arrived == 0 || (meeting.mask & lane_bit) == 0) continue;
    if (!may_miss_lanes(meeting.kind)) {
      fail("%s ended while %d lanes of its warp wait for it in a warp collective with mask 0x%08x",
           place(thread).c_str(), __builtin_popcount(meeting.arrived), meeting.mask);
    }
    const uint32_t needed = meeting.mask & warp.lanes & ~warp.ended;
    tsan_release(&meeting.sync[meeting.turn]);
    if (meeting.arrived == needed) close_meeting(warp, meeting);
  }
  open_barrier_if_complete();
}

int barrier(Barrier kind, int predicate) {
  Thread& thread = running_thread("__syncthreads");
  BlockBarrier& barrier = block_state.barrier;
  if (barrier.arrived > 0 && barrier.kind != kind) {
    fail("%s is at another kind of __syncthreads than %u threads that wait", place(thread).c_str(),
         barrier.arrived);
  }
  barrier.kind = kind;
  ++barrier.arrived;
  barrier.predicates += predicate != 0;
  char* sync = &barrier.sync[barrier.turn];
  tsan_release(sync);
  thread.state = State::kAtBarrier;
  open_barrier_if_complete();
  // The last to arrive waits, too, so that the next pass visits all threads in its own order.
  suspend(thread, thread.state);
  tsan_acquire(sync);
  return static_cast<int>(thread.result);
}

uint64_t collective(Collective kind, uint32_t mask, uint64_t value, int operand, int width) {
  Thread& thread = running_thread("a warp collective");
  Warp& warp = block_state.warps[thread.rank / kLanes];
  check_collective(thread, warp, kind, mask, width);
  Meeting& meeting = meeting_of(warp, mask);
  if (meeting.arrived != 0 && meeting.kind != kind) {
    fail("%s is in another kind of warp collective than %d lanes that wait with mask 0x%08x",
         place(thread).c_str(), __builtin_popcount(meeting.arrived), mask);
  }
  meeting.kind = kind;
  meeting.arrived |= uint32_t{1} << thread.rank % kLanes;
  thread.value = value;
  thread.operand = operand;
  thread.width = width;
  char* sync = &meeting.sync[meeting.turn];
  tsan_release(sync);
  if (meeting.arrived == (mask & warp.lanes & ~warp.ended)) {
    close_meeting(warp, meeting);
  } else {
    suspend(thread, State::kInCollective);
  }
  tsan_acquire(sync);
  return thread.result;
}

void trap() { fail("%s called __trap()", place(running_thread("__trap")).c_str()); }

}  // namespace depthroute::cuda::emulator
