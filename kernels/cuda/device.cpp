#include "kernels/cuda/device.h"

#include <fmt/format.h>

#include <atomic>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"

namespace depthroute::cuda {

void call_failed(cudaError_t error, const char* call, const char* file, int line) {
  throw SystemError("CUDA: {} ({}) from {} at {}:{}", cudaGetErrorString(error), cudaGetErrorName(error),
                    call, file, line);
}

namespace {

/// 13000 -> "13.0", as CUDA writes its versions.
std::string version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

std::string find_reason() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
      (error == cudaSuccess && count == 0)) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return "there is no NVIDIA driver on this machine";
    if (error == cudaErrorInsufficientDriver)
      return fmt::format("the driver knows CUDA {}, this program needs {}", version(driver),
                         version(runtime));
    return "the driver sees no GPU";
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return "";
}

double gib(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

bool built() { return true; }

const std::string& unavailable() {
  static const std::string reason = find_reason();
  return reason;
}

std::string describe() {
  if (!unavailable().empty()) return fmt::format("cuda: {}; planned regardless", unavailable());
  int device = 0, driver = 0, runtime = 0;
  DR_CUDA_CHECK(cudaGetDevice(&device));
  cudaDeviceProp properties;
  DR_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  DR_CUDA_CHECK(cudaDriverGetVersion(&driver));
  DR_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  return fmt::format("cuda: {}, {:.1f} GiB, sm_{}{}, CUDA {} (driver {}), {}, attention {}", properties.name,
                     gib(properties.totalGlobalMem), properties.major, properties.minor, version(runtime),
                     version(driver), describe_blas(), describe_attention());
}

int64_t process_bytes() {
  // CUDA's context, the program's kernels (about 10 MiB), cuBLASLt's scratch (64 MiB) and the libraries' own
  // memory on Hopper. Common experience, not measured. What is really left is known once reserve() has run.
  return int64_t{1} << 30;
}

int count() {
  int number = 0;
  return cudaGetDeviceCount(&number) == cudaSuccess ? number : 0;
}

namespace {
std::atomic<int> selected = 0;
}

void select(int local_rank) {
  const int number = count();
  if (number == 0) throw SystemError("device: cuda is not available: {}", unavailable());
  selected = local_rank % number;
  enter_thread();
}

void enter_thread() { DR_CUDA_CHECK(cudaSetDevice(selected)); }

std::string bus_id() {
  char text[64] = "";
  DR_CUDA_CHECK(cudaDeviceGetPCIBusId(text, sizeof(text), selected));
  return text;
}

Stream make_stream() {
  if (!unavailable().empty()) throw SystemError("device: cuda is not available: {}", unavailable());
  enter_thread();
  // One stream for everything: ops run in the order in which they were launched.
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    DR_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return {Device::cuda, stream};
}

void reserve(Stream stream) {
  enter_thread();
  reserve_blas(stream);
  load_kernels();
}

namespace {

struct Memory {
  size_t free = 0, total = 0;
};
Memory memory() {
  Memory now;
  DR_CUDA_CHECK(cudaMemGetInfo(&now.free, &now.total));
  return now;
}

}  // namespace

void require_headroom() {
  // For kernels of libraries and recorded graphs. An
  // estimate: nothing says beforehand what they take.
  constexpr size_t kHeadroom = size_t{256} << 20;
  const Memory now = memory();
  if (now.free >= kHeadroom) return;
  throw SystemError(
      "of the GPU's {:.2f} GiB only {:.2f} would be free for the kernels of the first step, which may take {:.2f}; "
      "use a smaller micro_batch or train.recompute: layer, or end other programs on this GPU "
      "(--dry-run shows what takes how much)",
      gib(now.total), gib(now.free), gib(kHeadroom));
}

void synchronize(Stream stream) { DR_CUDA_CHECK(cudaStreamSynchronize(handle(stream))); }

void* allocate(int64_t bytes) {
  if (!unavailable().empty()) throw SystemError("device: cuda is not available: {}", unavailable());
  enter_thread();
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // clear it, so that the next launch does not report it
    const Memory now = memory();
    throw SystemError(
        "cannot allocate {:.2f} GiB on the GPU: {:.2f} of {:.2f} GiB are free; "
        "use a smaller micro_batch or train.recompute: layer, or end other programs on this GPU "
        "(--dry-run shows what takes how much)",
        gib(static_cast<size_t>(bytes)), gib(now.free), gib(now.total));
  }
  if (error != cudaSuccess) call_failed(error, "cudaMalloc", __FILE__, __LINE__);
  DR_CUDA_CHECK(cudaMemset(block, 0, static_cast<size_t>(bytes)));
  DR_CUDA_CHECK(cudaDeviceSynchronize());  // cudaMemset ran on another stream
  return block;
}

void deallocate(void* block) { (void)cudaFree(block); }  // called from destructors: nothing may throw

bool finished(Stream stream) {
  const cudaError_t error = cudaStreamQuery(handle(stream));
  if (error == cudaErrorNotReady) return false;
  DR_CUDA_CHECK(error);
  return true;
}

SeparateStream::SeparateStream(Urgency urgency) {
  int least = 0, greatest = 0;
  DR_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t made = nullptr;
  DR_CUDA_CHECK(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking,
                                             urgency == Urgency::urgent ? greatest : least));
  stream_ = {Device::cuda, made};
}
SeparateStream::~SeparateStream() { (void)cudaStreamDestroy(handle(stream_)); }

Event::Event(bool timed) {
  cudaEvent_t made = nullptr;
  DR_CUDA_CHECK(cudaEventCreateWithFlags(&made, timed ? cudaEventDefault : cudaEventDisableTiming));
  handle_ = made;
}
Event::~Event() { (void)cudaEventDestroy(static_cast<cudaEvent_t>(handle_)); }

void Event::record(Stream stream) {
  DR_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(handle_), handle(stream)));
}

void Event::hold(Stream stream) const {
  DR_CUDA_CHECK(cudaStreamWaitEvent(handle(stream), static_cast<cudaEvent_t>(handle_), 0));
}

bool Event::passed() const {
  const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(handle_));
  if (error == cudaErrorNotReady) return false;
  DR_CUDA_CHECK(error);
  return true;
}

double Event::seconds_since(const Event& earlier) const {
  float milliseconds = 0;
  DR_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier.handle_),
                                     static_cast<cudaEvent_t>(handle_)));
  return 1e-3 * static_cast<double>(milliseconds);
}

void PinnedDeleter::operator()(std::byte* block) const { (void)cudaFreeHost(block); }

PinnedBlock allocate_pinned(int64_t bytes) {
  void* block = nullptr;
  DR_CUDA_CHECK(cudaMallocHost(&block, static_cast<size_t>(bytes)));
  return PinnedBlock(static_cast<std::byte*>(block));
}

void* record(Stream stream, const std::function<void()>& body) {
  cudaGraph_t graph = nullptr;
  DR_CUDA_CHECK(cudaStreamBeginCapture(handle(stream), cudaStreamCaptureModeThreadLocal));
  try {
    body();
  } catch (...) {
    (void)cudaStreamEndCapture(handle(stream), &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    throw;
  }
  DR_CUDA_CHECK(cudaStreamEndCapture(handle(stream), &graph));
  cudaGraphExec_t recording = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&recording, graph, 0);
  (void)cudaGraphDestroy(graph);
  if (error != cudaSuccess) call_failed(error, "cudaGraphInstantiate", __FILE__, __LINE__);
  return recording;
}

void replay(Stream stream, void* recording) {
  DR_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), handle(stream)));
}

void discard(void* recording) { (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)); }

}  // namespace depthroute::cuda
