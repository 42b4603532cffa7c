// Fibers: each has a stack, and the sanitizers know of switches between them.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && !defined(CUDA_ON_HOST_UCONTEXT)
#define CUDA_ON_HOST_ASSEMBLY 1
#else
#define CUDA_ON_HOST_ASSEMBLY 0
#include <ucontext.h>
#endif

namespace depthroute::cuda::emulator {

/// A suspended flow of control. Fibers stay in a pool until the process ends; they are never unmapped.
struct Fiber {
#if CUDA_ON_HOST_ASSEMBLY
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  const void* stack_low = nullptr;  // for AddressSanitizer: which stack it switches to
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's stand-in for the stack while the fiber is suspended
  void* tsan = nullptr;        // ThreadSanitizer's thread for it
};

/// Makes `fiber` run entry() on a new stack, which ends in a guard page, when it is first switched to.
/// entry() must not return. `color` (any number) spreads stacks over the cache: at equal distances they would
/// share a few sets.
void create_fiber(Fiber& fiber, void (*entry)(), size_t color);

/// Turns the running host thread into the fiber to return to. Call at the start of every launch.
void adopt_host_thread(Fiber& host);

/// Suspends `from`, the running fiber, and resumes `to`. Returns when something switches back.
void switch_fiber(Fiber& from, Fiber& to);

/// entry() calls this first, to take over the stack bounds of `from`, the fiber that switched here.
void enter_fiber(Fiber& from);

bool under_tsan();
/// For ThreadSanitizer: everything done before a tsan_release(address) is visible after a later
/// tsan_acquire(address). No-ops without it.
void tsan_release(void* address);
void tsan_acquire(void* address);

}  // namespace depthroute::cuda::emulator
