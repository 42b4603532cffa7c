// The emulated runtime: memory, streams, events, and graphs that replay what a stream captured.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/cuda_on_host/device_array.h"
#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

TEST(Memory, IsAlignedAndNotZeroed) {
  for (const size_t bytes : {1u, 255u, 256u, 1000u, 1u << 20}) {
    unsigned char* block = nullptr;
    ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&block), bytes), cudaSuccess);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 256, 0u);
    EXPECT_EQ(block[0], 0xff);
    EXPECT_EQ(block[bytes - 1], 0xff);
    EXPECT_EQ(cudaFree(block), cudaSuccess);
  }
}

TEST(Memory, IsCountedAndRunsOut) {
  size_t free_before = 0, free_with = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_before, &total), cudaSuccess);
  {
    const DeviceArray<char> block(1 << 20);
    ASSERT_EQ(cudaMemGetInfo(&free_with, &total), cudaSuccess);
    EXPECT_EQ(free_before - free_with, size_t{1} << 20);
  }
  ASSERT_EQ(cudaMemGetInfo(&free_with, &total), cudaSuccess);
  EXPECT_EQ(free_with, free_before);
  void* block = &total;
  EXPECT_EQ(cudaMalloc(&block, total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(block, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(Memory, IsAsMuchAsTold) {
  setenv("CUDA_ON_HOST_MEMORY", "5000", 1);
  void* block = nullptr;
  EXPECT_EQ(cudaMalloc(&block, 5001), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&block, 3000), cudaSuccess);
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(free, 2000u);
  EXPECT_EQ(total, 5000u);
  EXPECT_EQ(cudaFree(block), cudaSuccess);
  unsetenv("CUDA_ON_HOST_MEMORY");
  cudaGetLastError();
}

TEST(Memory, FreesOnlyWhatItGave) {
  int local = 0;
  void* host = nullptr;
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  EXPECT_EQ(cudaFree(&local), cudaErrorInvalidValue);
  ASSERT_EQ(cudaMallocHost(&host, 100), cudaSuccess);
  EXPECT_EQ(cudaFree(host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST(Device, ThereAreAsManyAsToldAndThreadsChooseForThemselves) {
  setenv("CUDA_ON_HOST_DEVICES", "3", 1);
  int count = 0, device = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(2), cudaSuccess);
  std::thread([&] { EXPECT_EQ(cudaGetDevice(&device), cudaSuccess); }).join();
  EXPECT_EQ(device, 0);
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 2);
  char text[16];
  EXPECT_EQ(cudaDeviceGetPCIBusId(text, sizeof(text), device), cudaSuccess);
  EXPECT_EQ(std::string(text), "0000:02:00.0");
  EXPECT_EQ(cudaDeviceGetPCIBusId(text, 8, device), cudaErrorInvalidValue);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  unsetenv("CUDA_ON_HOST_DEVICES");
  cudaGetLastError();
}

TEST(Device, IsThereUnlessTurnedOff) {
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(std::string(properties.name), "emulated");
  int shared = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
  EXPECT_EQ(static_cast<size_t>(shared), properties.sharedMemPerBlockOptin);

  setenv("CUDA_ON_HOST_DEVICES", "0", 1);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(cudaSetDevice(0), cudaErrorNoDevice);
  void* block = nullptr;
  EXPECT_EQ(cudaMalloc(&block, 16), cudaErrorNoDevice);
  unsetenv("CUDA_ON_HOST_DEVICES");
  EXPECT_EQ(std::string(cudaGetErrorName(cudaGetLastError())), "cudaErrorNoDevice");
}

class Graphs : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    cudaGetLastError();
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream_, mode), cudaSuccess);
  }
  cudaStreamCaptureStatus status() const {
    cudaStreamCaptureStatus status{};
    EXPECT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
    return status;
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(Graphs, ReplayWhatWasCapturedInItsOrder) {
  const DeviceArray<uint16_t> x(8), copy(8);
  ASSERT_EQ(cudaMemset(x.data(), 0, 16), cudaSuccess);
  ASSERT_EQ(cudaMemset(copy.data(), 0, 16), cudaSuccess);
  begin();
  EXPECT_EQ(status(), cudaStreamCaptureStatusActive);
  float addend = 1.0f;
  scale_bf16(x.data(), 8, 2.0f, addend, 32, stream_);  // x = 2 x + 1
  addend = 100.0f;                                     // arguments are copied at capture
  ASSERT_EQ(cudaMemcpyAsync(copy.data(), x.data(), 16, cudaMemcpyDeviceToDevice, stream_), cudaSuccess);
  scale_bf16(x.data(), 8, 1.0f, -1.0f, 32, stream_);  // x = x - 1
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(status(), cudaStreamCaptureStatusNone);
  EXPECT_EQ(x.to_host(), std::vector<uint16_t>(8, 0)) << "capturing runs nothing";
  size_t nodes = 0;
  ASSERT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 3u);

  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaMemset(x.data(), 0x3f, 16), cudaSuccess);  // 0x3f3f: 0.74609375
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);         // it was set on the legacy stream
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  // 0.746.. -> 2.5 (rounded to 8 bits of mantissa) -> 1.5 -> 4 -> 3
  EXPECT_EQ(copy.to_host(), std::vector<uint16_t>(8, 0x4080));
  EXPECT_EQ(x.to_host(), std::vector<uint16_t>(8, 0x4040));
}

TEST_F(Graphs, SynchronisingOrAllocatingSpoilsACapture) {
  const DeviceArray<char> x(16);
  void* block = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  const std::vector<std::function<cudaError_t()>> forbidden = {
      [&] { return cudaStreamSynchronize(stream_); },
      [&] { return cudaDeviceSynchronize(); },
      [&] { return cudaMalloc(&block, 16); },
      [&] { return cudaFree(x.data()); },
      [&] { return cudaMemcpy(x.data(), x.data() + 8, 8, cudaMemcpyDeviceToDevice); },
      [&] { return cudaMemset(x.data(), 0, 8); },
  };
  for (size_t i = 0; i < forbidden.size(); ++i) {
    begin();
    EXPECT_EQ(forbidden[i](), cudaErrorStreamCaptureUnsupported) << i;
    EXPECT_EQ(status(), cudaStreamCaptureStatusInvalidated) << i;
    EXPECT_EQ(cudaMemsetAsync(x.data(), 0, 8, stream_), cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated) << i;
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(status(), cudaStreamCaptureStatusNone) << i;
  }
  begin();
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event), cudaErrorCapturedEvent);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(Graphs, RelaxedCaptureLetsOthersAllocate) {
  begin(cudaStreamCaptureModeRelaxed);
  { const DeviceArray<char> x(16); }
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(Graphs, AThreadsOwnCaptureLetsOtherThreadsWork) {
  begin(cudaStreamCaptureModeThreadLocal);
  std::thread([] { const DeviceArray<char> x(16); }).join();
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);

  begin(cudaStreamCaptureModeGlobal);
  std::thread([] {
    void* block = nullptr;
    EXPECT_EQ(cudaMalloc(&block, 16), cudaErrorStreamCaptureUnsupported);
  }).join();
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Graphs, AnotherStreamJoinsThroughAnEvent) {
  const DeviceArray<unsigned char> x(4);
  cudaStream_t other = nullptr;
  cudaEvent_t fork = nullptr, join = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
  begin();
  ASSERT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(x.data(), 3, 4, other), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(other, &graph), cudaErrorStreamCaptureUnmatched);
  ASSERT_EQ(cudaEventRecord(join, other), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream_, join, 0), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(x.to_host(), std::vector<unsigned char>(4, 0xff));
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(executable, nullptr), cudaSuccess);
  EXPECT_EQ(x.to_host(), std::vector<unsigned char>(4, 3));
  ASSERT_EQ(cudaMemsetAsync(x.data(), 5, 4, other), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(x.to_host(), std::vector<unsigned char>(4, 5)) << "the other stream captures no more";
  for (const cudaEvent_t event : {fork, join}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(Graphs, EventsTimeAStream) {
  cudaEvent_t start = nullptr, end = nullptr;
  ASSERT_EQ(cudaEventCreate(&start), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaEventRecord(start, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0.0f);
  for (const cudaEvent_t event : {start, end}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST(Streams, DestroyedOnesAreRefused) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace depthroute::cuda::samples
