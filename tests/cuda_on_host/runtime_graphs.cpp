// Captures and graphs of the emulated CUDA runtime. A graph keeps what each piece of work needs, as the streams
// and events of the capture said, and nothing else; so a launch may run it in many orders.
#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/captures.h"
#include "tests/cuda_on_host/runtime.h"

namespace depthroute::cuda::emulator {

bool reaches_all(const Nodes& nodes, const std::set<size_t>& ends) {
  std::vector<bool> reached(nodes.size(), false);
  for (const size_t end : ends) reached[end] = true;
  for (size_t i = nodes.size(); i-- > 0;) {  // nodes come after those they need
    if (!reached[i]) return false;
    for (const size_t before : nodes[i].after) reached[before] = true;
  }
  return true;
}

void run_graph(const Nodes& nodes) {
  const Order chosen = order();
  std::vector<size_t> missing(nodes.size());
  std::vector<std::vector<size_t>> next(nodes.size());
  std::vector<size_t> can_run;  // ascending
  for (size_t i = 0; i < nodes.size(); ++i) {
    missing[i] = nodes[i].after.size();
    for (const size_t before : nodes[i].after) next[before].push_back(i);
    if (missing[i] == 0) can_run.push_back(i);
  }
  while (!can_run.empty()) {
    auto at = can_run.begin();
    if (chosen == Order::lazy) at = can_run.end() - 1;
    if (chosen == Order::random) at += static_cast<std::ptrdiff_t>(draw(can_run.size()));
    if (chosen == Order::opposite) {
      at = std::find_if(can_run.begin(), can_run.end(), [&](size_t i) { return nodes[i].on_side; });
      if (at == can_run.end()) at = can_run.begin();
    }
    const size_t node = *at;
    can_run.erase(at);
    nodes[node].run();
    for (const size_t after : next[node])
      if (--missing[after] == 0)
        can_run.insert(std::lower_bound(can_run.begin(), can_run.end(), after), after);
  }
}

}  // namespace depthroute::cuda::emulator

namespace emulator = depthroute::cuda::emulator;
using emulator::capture_of;
using emulator::is_default_stream;
using emulator::is_stream;
using emulator::note;
using emulator::streams;
using emulator::streams_mutex;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(streams_mutex());
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (is_default_stream(stream)) return note(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return note(cudaErrorIllegalState);
  stream->capture = std::make_shared<emulator::Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->last.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(streams_mutex());
  *graph = nullptr;
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<emulator::Capture> capture = capture_of(stream);
  if (capture == nullptr) return note(cudaErrorIllegalState);
  if (capture->origin != stream) return note(cudaErrorStreamCaptureUnmatched);
  for (const cudaStream_t other : streams()) {
    if (other->capture == capture) other->capture = nullptr;
  }
  if (capture->spoilt) return note(cudaErrorStreamCaptureInvalidated);
  if (!reaches_all(*capture->nodes, stream->last)) return note(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->nodes};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(streams_mutex());
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<emulator::Capture> capture = capture_of(stream);
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
  return emulator::run_or_record(stream, [nodes = executable->nodes] { emulator::run_graph(*nodes); });
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
