// Streams and events of the emulated CUDA runtime. Work waits in queues (queues.h) until somebody needs it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/captures.h"
#include "tests/cuda_on_host/runtime.h"

namespace depthroute::cuda::emulator {
namespace {

constexpr int kHighestPriority = -5;

/// Of the legacy stream; cudaStreamPerThread counts as the same.
const std::shared_ptr<Queue>& legacy_queue() {
  static auto* queue = new std::shared_ptr<Queue>(make_queue());
  return *queue;
}

const std::shared_ptr<Queue>& queue_of(cudaStream_t stream) {
  return is_default_stream(stream) ? legacy_queue() : stream->queue;
}

/// Does what the legacy stream waits for, or what waits for the legacy stream, before `stream` gets new work.
void order_with_legacy(cudaStream_t stream) {
  if (!is_default_stream(stream)) {
    if (stream->blocking) finish(legacy_queue());
    return;
  }
  for (const cudaStream_t other : streams())
    if (other->blocking) finish(other->queue);
}

/// Why a call may not wait for `stream`, or for all streams if null.
cudaError_t refuse_to_wait(cudaStream_t stream) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = capture_of(stream);
  if (capture == nullptr) return refuse_during_capture();
  capture->spoilt = true;
  return note(cudaErrorStreamCaptureUnsupported);
}

cudaError_t check_event_is_outside_capture(cudaEvent_t event) {
  if (event == nullptr) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = event->capture.lock();
  if (capture == nullptr) return cudaSuccess;
  capture->spoilt = true;
  return note(cudaErrorCapturedEvent);
}

int64_t waits = 0, forgotten = -1;

/// Plants a fault in a whole program: CUDA_ON_HOST_FORGET_WAITS=all|urgent|ordinary makes streams forget to wait
/// for events: all of them, those of the highest priority (NCCL's), or the others. Or in one place: forget_wait().
bool forgets_to_wait(cudaStream_t stream) {
  if (waits++ == forgotten) return true;
  const char* who = std::getenv("CUDA_ON_HOST_FORGET_WAITS");
  if (who == nullptr) return false;
  const bool urgent = !is_default_stream(stream) && stream->priority == kHighestPriority;
  return std::strcmp(who, "all") == 0 || std::strcmp(who, urgent ? "urgent" : "ordinary") == 0;
}

/// What this thread has asked since it last did something else with streams. Whoever asks again waits.
thread_local std::set<const void*> asked;
bool asks_again(const void* handle) { return !asked.insert(handle).second; }

}  // namespace

int64_t waits_so_far() {
  const std::lock_guard lock(streams_mutex());
  return waits;
}
void forget_wait(int64_t number) {
  const std::lock_guard lock(streams_mutex());
  forgotten = number;
}

std::vector<cudaStream_t>& streams() {
  static auto* all = new std::vector<cudaStream_t>;
  return *all;
}
bool is_default_stream(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}
bool is_stream(cudaStream_t stream) {
  return is_default_stream(stream) ||
         std::find(streams().begin(), streams().end(), stream) != streams().end();
}
std::shared_ptr<Capture> capture_of(cudaStream_t stream) {
  return is_default_stream(stream) ? nullptr : stream->capture;
}

cudaError_t refuse_during_capture() {
  const std::lock_guard lock(streams_mutex());
  for (const cudaStream_t stream : streams()) {
    const std::shared_ptr<Capture>& capture = stream->capture;
    if (capture == nullptr || capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id())
      continue;
    capture->spoilt = true;
    return note(cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

cudaError_t run_or_record(cudaStream_t stream, std::function<void()> work, bool may_block) {
  const std::lock_guard lock(streams_mutex());
  asked.clear();
  if (!have_device()) return note(cudaErrorNoDevice);
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (const std::shared_ptr<Capture> capture = capture_of(stream)) {
    if (capture->spoilt) return note(cudaErrorStreamCaptureInvalidated);
    capture->nodes->push_back({std::move(work), std::move(stream->last), stream != capture->origin});
    stream->last = {capture->nodes->size() - 1};
    return cudaSuccess;
  }
  if (is_default_stream(stream) && stream != cudaStreamPerThread) {
    for (const cudaStream_t other : streams()) {
      if (other->capture == nullptr || !other->blocking) continue;
      other->capture->spoilt = true;
      return note(cudaErrorStreamCaptureImplicit);
    }
  }
  order_with_legacy(stream);
  push(queue_of(stream), {std::move(work), nullptr, nullptr, may_block});
  return cudaSuccess;
}

cudaError_t run_and_wait(cudaStream_t stream, std::function<void()> work) {
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = run_or_record(stream, std::move(work)); error != cudaSuccess) return error;
  if (capture_of(stream) == nullptr) finish(queue_of(stream));
  return cudaSuccess;
}

}  // namespace depthroute::cuda::emulator

namespace emulator = depthroute::cuda::emulator;
using emulator::capture_of;
using emulator::have_device;
using emulator::is_default_stream;
using emulator::is_stream;
using emulator::note;
using emulator::streams;
using emulator::streams_mutex;

// ---- streams

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (!have_device()) return note(cudaErrorNoDevice);
  *least = 0;
  *greatest = emulator::kHighestPriority;
  return cudaSuccess;
}

// Priorities outside the range are moved into it, as CUDA does. They change nothing here.
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (!have_device()) return note(cudaErrorNoDevice);
  if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking) return note(cudaErrorInvalidValue);
  const std::lock_guard lock(streams_mutex());
  *stream = new CUstream_st;
  (*stream)->blocking = flags == cudaStreamDefault;
  (*stream)->priority = std::clamp(priority, emulator::kHighestPriority, 0);
  streams().push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  const std::lock_guard lock(streams_mutex());
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  *priority = is_default_stream(stream) ? 0 : stream->priority;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex());
  if (is_default_stream(stream) || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) stream->capture->spoilt = true;
  finish(stream->queue);
  std::erase(streams(), stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = emulator::refuse_to_wait(stream); error != cudaSuccess) return error;
  if (is_default_stream(stream)) emulator::order_with_legacy(stream);
  finish(emulator::queue_of(stream));
  return cudaSuccess;
}

// Not ready if there is work, until it is asked again.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = emulator::refuse_to_wait(stream); error != cudaSuccess) return error;
  if (emulator::queue_of(stream)->work.empty()) return cudaSuccess;
  if (!emulator::asks_again(stream)) return cudaErrorNotReady;
  return cudaStreamSynchronize(stream);
}

cudaError_t cudaDeviceSynchronize() {
  if (!have_device()) return note(cudaErrorNoDevice);
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = emulator::refuse_during_capture(); error != cudaSuccess) return error;
  emulator::finish_all();
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (function == nullptr) return note(cudaErrorInvalidValue);
  return emulator::run_or_record(
      stream, [function, data] { function(data); }, true);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(streams_mutex());
  emulator::asked.clear();
  if (event == nullptr || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<emulator::Capture> theirs = event->capture.lock();
  const std::shared_ptr<emulator::Capture> ours = capture_of(stream);
  if (theirs == nullptr) {
    if (event->point == nullptr) return cudaSuccess;  // never recorded
    if (ours != nullptr) {
      ours->spoilt = true;
      return note(cudaErrorStreamCaptureIsolation);
    }
    if (emulator::forgets_to_wait(stream)) return cudaSuccess;
    emulator::order_with_legacy(stream);
    push(emulator::queue_of(stream), {nullptr, event->point, nullptr});
    return cudaSuccess;
  }
  if (ours != nullptr && theirs != ours) return note(cudaErrorStreamCaptureMerge);
  if (is_default_stream(stream)) return note(cudaErrorStreamCaptureImplicit);
  if (ours == nullptr) stream->last.clear();
  stream->capture = theirs;
  stream->last.insert(event->last.begin(), event->last.end());
  return cudaSuccess;
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (!have_device()) return note(cudaErrorNoDevice);
  *event = new CUevent_st;
  (*event)->timing = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return note(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(streams_mutex());
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex());
  emulator::asked.clear();
  if (event == nullptr || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  event->capture = capture_of(stream);
  event->point = nullptr;
  if (!event->capture.expired()) {
    event->last = stream->last;
    return cudaSuccess;
  }
  emulator::order_with_legacy(stream);
  event->point = std::make_shared<emulator::Point>();
  push(emulator::queue_of(stream), {nullptr, nullptr, event->point});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = emulator::check_event_is_outside_capture(event); error != cudaSuccess)
    return error;
  if (event->point != nullptr) finish(event->point);
  return cudaSuccess;
}

// Not ready if it has not passed, until it is asked again.
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(streams_mutex());
  if (const cudaError_t error = emulator::check_event_is_outside_capture(event); error != cudaSuccess)
    return error;
  if (event->point == nullptr || event->point->passed) return cudaSuccess;
  if (!emulator::asks_again(event)) return cudaErrorNotReady;
  return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(streams_mutex());
  if (start == nullptr || end == nullptr || !start->point || !end->point || !start->timing || !end->timing)
    return note(cudaErrorInvalidResourceHandle);
  if (!start->point->passed || !end->point->passed) return note(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->point->when - start->point->when).count();
  return cudaSuccess;
}
