// Streams, events and graphs of the emulated CUDA runtime. Work runs immediately, so streams only matter
// during a capture: then work is kept as closures, and launching the graph runs them in the order of capture.
#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/runtime.h"

using Nodes = std::vector<std::function<void()>>;

namespace {

/// One capture. It begins on `origin`; other streams join by waiting for one of its events.
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = std::this_thread::get_id();  // the one that began it
  bool spoilt = false;
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
};

}  // namespace

// The types behind CUDA's opaque handles.
struct CUstream_st {
  bool blocking = true;  // ordered with the legacy stream
  std::shared_ptr<Capture> capture;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point when{};
  bool recorded = false;
  bool timing = true;
  std::weak_ptr<Capture> capture;  // the capture it was last recorded in
};
struct CUgraph_st {
  std::shared_ptr<const Nodes> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
};

namespace depthroute::cuda::emulator {
namespace {

std::recursive_mutex streams_mutex;
std::set<cudaStream_t>& streams() {
  static auto* all = new std::set<cudaStream_t>;
  return *all;
}

bool is_default_stream(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}
bool is_legacy_stream(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy; }

bool is_stream(cudaStream_t stream) { return is_default_stream(stream) || streams().count(stream) != 0; }

std::shared_ptr<Capture> capture_of(cudaStream_t stream) {
  return is_default_stream(stream) ? nullptr : stream->capture;
}

/// A call that waits for `stream`, or for all streams if null.
cudaError_t synchronize(cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex);
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

void run_all(const Nodes& nodes) {
  for (const auto& node : nodes) node();
}

}  // namespace

cudaError_t refuse_during_capture() {
  const std::lock_guard lock(streams_mutex);
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

cudaError_t run_or_record(cudaStream_t stream, std::function<void()> work) {
  {
    const std::lock_guard lock(streams_mutex);
    if (!have_device()) return note(cudaErrorNoDevice);
    if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
    if (const std::shared_ptr<Capture> capture = capture_of(stream)) {
      if (capture->spoilt) return note(cudaErrorStreamCaptureInvalidated);
      capture->nodes->push_back(std::move(work));
      return cudaSuccess;
    }
    if (is_legacy_stream(stream)) {
      for (const cudaStream_t other : streams()) {
        if (other->capture == nullptr || !other->blocking) continue;
        other->capture->spoilt = true;
        return note(cudaErrorStreamCaptureImplicit);
      }
    }
  }
  work();
  return cudaSuccess;
}

}  // namespace depthroute::cuda::emulator

using depthroute::cuda::emulator::capture_of;
using depthroute::cuda::emulator::check_event_is_outside_capture;
using depthroute::cuda::emulator::have_device;
using depthroute::cuda::emulator::is_default_stream;
using depthroute::cuda::emulator::is_stream;
using depthroute::cuda::emulator::note;
using depthroute::cuda::emulator::run_all;
using depthroute::cuda::emulator::run_or_record;
using depthroute::cuda::emulator::streams;
using depthroute::cuda::emulator::streams_mutex;

// ---- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (!have_device()) return note(cudaErrorNoDevice);
  if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking) return note(cudaErrorInvalidValue);
  const std::lock_guard lock(streams_mutex);
  *stream = new CUstream_st{flags == cudaStreamDefault, nullptr};
  streams().insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex);
  if (is_default_stream(stream) || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) stream->capture->spoilt = true;
  streams().erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return depthroute::cuda::emulator::synchronize(stream);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return depthroute::cuda::emulator::synchronize(stream); }
cudaError_t cudaDeviceSynchronize() {
  return have_device() ? depthroute::cuda::emulator::synchronize(nullptr) : note(cudaErrorNoDevice);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(streams_mutex);
  if (event == nullptr || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> theirs = event->capture.lock();
  const std::shared_ptr<Capture> ours = capture_of(stream);
  if (theirs == ours) return cudaSuccess;
  if (theirs == nullptr) return cudaSuccess;  // an event from outside the capture has already passed
  if (ours != nullptr) return note(cudaErrorStreamCaptureMerge);
  if (is_default_stream(stream)) return note(cudaErrorStreamCaptureImplicit);
  stream->capture = theirs;
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
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(streams_mutex);
  if (event == nullptr || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  event->capture = capture_of(stream);
  event->when = std::chrono::steady_clock::now();
  event->recorded = event->capture.expired();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return check_event_is_outside_capture(event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return check_event_is_outside_capture(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start == nullptr || end == nullptr || !start->recorded || !end->recorded || !start->timing ||
      !end->timing) {
    return note(cudaErrorInvalidResourceHandle);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
  return cudaSuccess;
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(streams_mutex);
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (is_default_stream(stream)) return note(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return note(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(streams_mutex);
  *graph = nullptr;
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = capture_of(stream);
  if (capture == nullptr) return note(cudaErrorIllegalState);
  if (capture->origin != stream) return note(cudaErrorStreamCaptureUnmatched);
  for (const cudaStream_t other : streams()) {
    if (other->capture == capture) other->capture = nullptr;
  }
  if (capture->spoilt) return note(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{capture->nodes};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(streams_mutex);
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = capture_of(stream);
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->spoilt  ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (graph == nullptr || nodes != nullptr) return note(cudaErrorInvalidValue);  // only counting is supported
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (executable == nullptr || graph == nullptr) return note(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return note(cudaErrorInvalidValue);
  return run_or_record(stream, [nodes = executable->nodes] { run_all(*nodes); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (graph == nullptr) return note(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  if (executable == nullptr) return note(cudaErrorInvalidValue);
  delete executable;
  return cudaSuccess;
}
