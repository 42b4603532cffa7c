#include "tests/cuda_on_host/access_log.h"

#include <cstdlib>
#include <cstring>

#include "tests/cuda_on_host/block.h"
#include "tests/cuda_on_host/runtime.h"

namespace depthroute::cuda::emulator {

namespace {

constexpr size_t kUnit = 2, kSector = 32;  // bytes; the smallest element is a bf16
AccessLog* recording = nullptr;

/// Returns whether `stamp` was another launch's, and makes it this one's.
bool stamp(uint16_t& last, uint16_t launch) {
  if (last == launch) return false;
  last = launch;
  return true;
}

}  // namespace

void announced(const void* address, size_t bytes, bool write) {
  if (recording) recording->note(reinterpret_cast<uintptr_t>(address), bytes, write);
}

AccessLog::AccessLog(const void* begin, size_t bytes)
    : begin_(reinterpret_cast<uintptr_t>(begin)),
      bytes_(bytes),
      last_read_(bytes / kUnit + 1),
      last_write_(bytes / kUnit + 1),
      last_sector_read_(bytes / kSector + 1),
      last_sector_write_(bytes / kSector + 1) {
  if (recording) fail("two AccessLogs at once");
  recording = this;
  after_launch = [] { recording->end_launch(); };
}

AccessLog::~AccessLog() {
  recording = nullptr;
  after_launch = nullptr;
}

void AccessLog::note(uintptr_t address, size_t bytes, bool write) {
  if (address < begin_ || address + bytes > begin_ + bytes_) return;
  const size_t at = address - begin_;
  if (at % kUnit != 0 || bytes % kUnit != 0) fail("AccessLog: %zu bytes at an address of %zu", bytes, at);
  const auto unit = static_cast<int64_t>(kUnit);
  for (size_t i = at / kUnit; i < (at + bytes) / kUnit; ++i) {
    const size_t sector = i * kUnit / kSector;
    if (write) {
      current_.written += stamp(last_write_[i], launch_) ? unit : 0;
      current_.sectors += stamp(last_sector_write_[sector], launch_) ? 1 : 0;
    } else if (last_write_[i] != launch_) {
      current_.read += stamp(last_read_[i], launch_) ? unit : 0;
      current_.sectors += stamp(last_sector_read_[sector], launch_) ? 1 : 0;
    }
  }
}

void AccessLog::end_launch() {
  launches_.push_back(current_);
  current_ = {};
  if (++launch_ == 0) fail("AccessLog: more launches than it can tell apart");
}

}  // namespace depthroute::cuda::emulator

// What g++ and clang++ call before an access. Their names are the sanitizer's.
using depthroute::cuda::emulator::announced;
extern "C" {
#define DR_ANNOUNCE(bytes)                                                   \
  void __tsan_read##bytes(void* p) { announced(p, bytes, false); }           \
  void __tsan_write##bytes(void* p) { announced(p, bytes, true); }           \
  void __tsan_volatile_read##bytes(void* p) { announced(p, bytes, false); }  \
  void __tsan_volatile_write##bytes(void* p) { announced(p, bytes, true); }  \
  void __tsan_unaligned_read##bytes(void* p) { announced(p, bytes, false); } \
  void __tsan_unaligned_write##bytes(void* p) { announced(p, bytes, true); }
DR_ANNOUNCE(1)
DR_ANNOUNCE(2)
DR_ANNOUNCE(4)
DR_ANNOUNCE(8)
DR_ANNOUNCE(16)
#undef DR_ANNOUNCE
void __tsan_read_range(void* p, size_t bytes) { announced(p, bytes, false); }
void __tsan_write_range(void* p, size_t bytes) { announced(p, bytes, true); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  announced(from, bytes, false);
  announced(to, bytes, true);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  announced(from, bytes, false);
  announced(to, bytes, true);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  announced(to, bytes, true);
  return std::memset(to, value, bytes);
}
// Host code that is compiled along has atomics.
#define DR_ATOMIC(bits, T)                                                                                \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
  void __tsan_atomic##bits##_store(volatile T* p, T x, int) { __atomic_store_n(p, x, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_exchange(volatile T* p, T x, int) {                                             \
    return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                       \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T x, int) {                                            \
    return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST);                                                    \
  }                                                                                                       \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T x, int, int) {          \
    return __atomic_compare_exchange_n(p, expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }
DR_ATOMIC(8, uint8_t)
DR_ATOMIC(32, uint32_t)
DR_ATOMIC(64, uint64_t)
#undef DR_ATOMIC
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void**, void*) {}
}
