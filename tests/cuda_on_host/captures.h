// Captures of streams into graphs, and the objects behind CUDA's opaque handles.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/cuda_on_host/queues.h"

namespace depthroute::cuda::emulator {

/// One piece of captured work. It needs the nodes in `after`, all of them captured earlier, and nothing else.
struct Node {
  std::function<void()> run;
  std::set<size_t> after;
  bool on_side = false;  // captured by another stream than the one the capture began on
};
using Nodes = std::vector<Node>;

/// One capture. It begins on `origin`; other streams join by waiting for one of its events.
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = std::this_thread::get_id();  // the one that began it
  bool spoilt = false;
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
};

/// Whether every node is among those in `ends`, or before them.
bool reaches_all(const Nodes& nodes, const std::set<size_t>& ends);
/// Runs the nodes in one of the orders that what they need allows: lazy takes the last that can run, opposite
/// those of side streams first, a seed any, eager the order of capture.
void run_graph(const Nodes& nodes);

}  // namespace depthroute::cuda::emulator

struct CUstream_st {
  bool blocking = true;  // ordered with the legacy stream
  int priority = 0;
  std::shared_ptr<depthroute::cuda::emulator::Queue> queue = depthroute::cuda::emulator::make_queue();
  std::shared_ptr<depthroute::cuda::emulator::Capture> capture;
  std::set<size_t> last;  // of the capture: what the stream's next node comes after
};
struct CUevent_st {
  bool timing = true;
  std::shared_ptr<depthroute::cuda::emulator::Point> point;    // null: never recorded outside a capture
  std::weak_ptr<depthroute::cuda::emulator::Capture> capture;  // the capture it was last recorded in
  std::set<size_t> last;                                       // the recording stream's, there
};
struct CUgraph_st {
  std::shared_ptr<const depthroute::cuda::emulator::Nodes> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const depthroute::cuda::emulator::Nodes> nodes;
};

namespace depthroute::cuda::emulator {

/// All but the default ones, in the order of making.
std::vector<cudaStream_t>& streams();
/// Whether the handle is that of a stream; the default streams are.
bool is_stream(cudaStream_t stream);
bool is_default_stream(cudaStream_t stream);
/// The capture the stream is part of, or null.
std::shared_ptr<Capture> capture_of(cudaStream_t stream);

}  // namespace depthroute::cuda::emulator
