// GPUs as kernels/device.cpp sees them; absent.cpp has the same functions for builds without CUDA. Including
// this needs no CUDA header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/device.h"

namespace depthroute::cuda {

/// Whether this program was built with CUDA.
bool built();
/// Returns why no GPU can be used here, or "". Asks the driver once.
const std::string& unavailable();

/// Returns name, memory, compute capability, driver and library versions, and the attention in use, or that
/// there is no GPU.
std::string describe();
/// Estimates, without asking a device, what CUDA's context and the libraries' own buffers take besides arenas.
int64_t process_bytes();

/// Returns how many GPUs this process can use; 0 if none.
int count();
/// Selects GPU local_rank % count() for this process: for this thread, and for others from their first
/// make_stream(), allocate() or enter_thread() on.
void select(int local_rank);
void enter_thread();
/// Returns the selected GPU's PCI address, e.g. "0000:41:00.0": equal for two ranks that share a GPU.
std::string bus_id();

Stream make_stream();
/// Takes what arenas must leave: the device's context, cuBLASLt's scratch for `stream`, the program's kernels.
void reserve(Stream stream);
/// Throws SystemError unless the device has some memory left for what can only be loaded in the first step.
void require_headroom();
void synchronize(Stream stream);
/// Returns whether all its work is done. Throws SystemError if some of it failed.
bool finished(Stream stream);

/// A stream besides that of make_stream(). Blocks of an `urgent` one are scheduled before those of others, so
/// that short kernels (NCCL's) need not wait for a large one of make_stream() to drain.
enum class Urgency : uint8_t { ordinary, urgent };
class SeparateStream {
 public:
  explicit SeparateStream(Urgency urgency = Urgency::ordinary);
  ~SeparateStream();
  SeparateStream(const SeparateStream&) = delete;
  SeparateStream& operator=(const SeparateStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Stream stream_;
};

/// A point in a stream's work.
class Event {
 public:
  explicit Event(bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  /// Sets the point after all work `stream` has been given so far.
  void record(Stream stream);
  /// Makes work that `stream` is given from now on wait for this point.
  void hold(Stream stream) const;
  bool passed() const;
  /// Returns the time from `earlier` to this; both must be timed and have passed.
  double seconds_since(const Event& earlier) const;

 private:
  void* handle_ = nullptr;
};

/// Page-locked host memory: copies between it and the device are asynchronous.
struct PinnedDeleter {
  void operator()(std::byte* block) const;
};
using PinnedBlock = std::unique_ptr<std::byte[], PinnedDeleter>;
PinnedBlock allocate_pinned(int64_t bytes);

/// Returns zero-filled memory, 256-byte aligned. Throws SystemError if there is too little.
void* allocate(int64_t bytes);
void deallocate(void* block);

/// Records what `body` puts on the stream without executing it; replay() executes it, any number of times.
/// The caller owns the recording and must discard() it.
void* record(Stream stream, const std::function<void()>& body);
void replay(Stream stream, void* recording);
void discard(void* recording);

}  // namespace depthroute::cuda
