// GPUs as kernels/device.cpp sees them; device_absent.cpp has the same functions for builds without CUDA. No
// CUDA header is needed to include this.
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
/// Why no GPU can be used here, or "". Asks the driver once.
const std::string& unavailable();

/// Name, memory, compute capability, driver and library versions, attention in use; says so where there is no
/// GPU to describe.
std::string describe();
/// What CUDA's context and the libraries' own buffers take beside arenas. An estimate.
int64_t process_bytes();

/// How many GPUs this process can use; 0 where none.
int count();
/// GPU local_rank % count() for this process: this thread, and others from their first make_stream(),
/// allocate() or enter_thread().
void select(int local_rank);
void enter_thread();
/// Of the GPU selected, e.g. "0000:41:00.0": the same for two processes that share one.
std::string bus_id();

Stream make_stream();
void synchronize(Stream stream);
/// Whether all its work is done. Throws SystemError if some of it failed.
bool finished(Stream stream);

/// A stream beside that of make_stream().
class SeparateStream {
 public:
  SeparateStream();
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
  /// After what `stream` has been given so far.
  void record(Stream stream);
  /// What `stream` is given from now on comes after this point.
  void hold(Stream stream) const;
  bool passed() const;
  /// From `earlier` to this; both are timed and have passed.
  double seconds_since(const Event& earlier) const;

 private:
  void* handle_ = nullptr;
};

/// Page-locked host memory, which copies to and from the device need not wait for.
struct PinnedDeleter {
  void operator()(std::byte* block) const;
};
using PinnedBlock = std::unique_ptr<std::byte[], PinnedDeleter>;
PinnedBlock allocate_pinned(int64_t bytes);

/// Zero-filled, 256-byte aligned.
void* allocate(int64_t bytes);
void deallocate(void* block);

/// Records what `body` puts on the stream instead of doing it; then replay() does it, any number of times.
/// nullptr in, or a recording to be replaced.
void* record(Stream stream, const std::function<void()>& body);
void replay(Stream stream, void* recording);
void discard(void* recording);

}  // namespace depthroute::cuda
