// Stacks, the switch between them, and what the sanitizers must be told about it. Compiled without
// -fsanitize=thread, whose instrumentation of the switching function would confuse the two stacks.
#include "tests/cuda_on_host/context.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// The sanitizers' run-time interfaces. Weak, so that one emulator works in programs with and without them.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
}

#if CUDA_ON_HOST_ASSEMBLY
// void depthroute_switch_stack(void** save /*rdi*/, void* target /*rsi*/): saves System V's callee-saved
// registers on the old stack and restores them from the new one. MXCSR and the x87 control word are the same
// for all threads.
extern "C" void depthroute_switch_stack(void** save, void* target);
asm(R"(
  .text
  .p2align 4
  .globl depthroute_switch_stack
  .hidden depthroute_switch_stack
  .type depthroute_switch_stack, @function
depthroute_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size depthroute_switch_stack, .-depthroute_switch_stack
)");
#endif

namespace depthroute::cuda::emulator {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr unsigned kTsanNoSync = 1;  // __tsan_switch_to_fiber_no_sync: a switch orders nothing

char* map_stack() {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped, guard, PROT_NONE) != 0) {
    std::perror("cuda_on_host: cannot map a stack for a CUDA thread");
    std::abort();
  }
  return static_cast<char*>(mapped) + guard;
}

}  // namespace

void create_fiber(Fiber& fiber, void (*entry)(), size_t color) {
  char* low = map_stack();
  fiber.stack_low = low;
  fiber.stack_bytes = kStackBytes;
  // 9 cache lines apart, at most 72 KiB of the stack.
  char* top = low + kStackBytes - color % 128 * 576;
#if CUDA_ON_HOST_ASSEMBLY
  // What depthroute_switch_stack pops: six registers, the address of entry(), and the return address that
  // entry() sees, which is null to end stack traces. At entry(), the stack pointer is 8 below a multiple of
  // 16, as after a call.
  void** slots = reinterpret_cast<void**>(top) - 1;
  slots[0] = nullptr;
  slots[-1] = reinterpret_cast<void*>(entry);
  for (int i = 2; i <= 7; ++i) slots[-i] = nullptr;
  fiber.stack_pointer = slots - 7;
  static_assert(kStackBytes % 16 == 0 && 576 % 16 == 0);
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = low;
  fiber.context.uc_stack.ss_size = static_cast<size_t>(top - low);
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#endif
  if (under_tsan()) fiber.tsan = __tsan_create_fiber(0);
}

void adopt_host_thread(Fiber& host) {
  if (under_tsan()) host.tsan = __tsan_get_current_fiber();
}

void switch_fiber(Fiber& from, Fiber& to) {
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_low, to.stack_bytes);
  }
  if (under_tsan()) __tsan_switch_to_fiber(to.tsan, kTsanNoSync);
#if CUDA_ON_HOST_ASSEMBLY
  depthroute_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
  if (__sanitizer_finish_switch_fiber != nullptr) {
    // Switches come in pairs, so it was `to` that switched
    // back; if that is the host, it may be another host thread.
    __sanitizer_finish_switch_fiber(from.fake_stack, &to.stack_low, &to.stack_bytes);
  }
}

void enter_fiber(Fiber& from) {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &from.stack_low, &from.stack_bytes);
  }
}

bool under_tsan() { return __tsan_create_fiber != nullptr; }

void tsan_release(void* address) {
  if (__tsan_release != nullptr) __tsan_release(address);
}

void tsan_acquire(void* address) {
  if (__tsan_acquire != nullptr) __tsan_acquire(address);
}

}  // namespace depthroute::cuda::emulator
