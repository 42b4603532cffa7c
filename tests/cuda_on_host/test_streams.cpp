// Work of several streams, in every order that CUDA_ON_HOST_STREAMS offers: correct programs give the same
// numbers in all of them, and planted faults, each one wait too few, give wrong ones.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/cuda_on_host/device_array.h"
#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

using Bytes = std::vector<unsigned char>;
constexpr size_t kSize = 4;

const std::vector<std::string>& orders() {
  static const std::vector<std::string> all = {"eager", "lazy", "opposite", "1", "2", "3", "4", "5", "6"};
  return all;
}

/// Two streams, of which `side` has the higher priority, and an event.
class SeveralStreams : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&main_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithPriority(&side_, cudaStreamNonBlocking, -1), cudaSuccess);
    for (cudaEvent_t* event : {&event_, &join_})
      ASSERT_EQ(cudaEventCreateWithFlags(event, cudaEventDisableTiming), cudaSuccess);
  }
  void TearDown() override {
    for (const cudaEvent_t event : {event_, join_}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (const cudaStream_t stream : {main_, side_}) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    unsetenv("CUDA_ON_HOST_STREAMS");
    cudaGetLastError();
  }
  /// Makes what `to` is given from now on wait for what `from` has been given.
  void order(cudaStream_t from, cudaStream_t to) {
    EXPECT_EQ(cudaEventRecord(event_, from), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(to, event_, 0), cudaSuccess);
  }
  static void set(const DeviceArray<unsigned char>& x, int value, cudaStream_t stream) {
    EXPECT_EQ(cudaMemsetAsync(x.data(), value, kSize, stream), cudaSuccess);
  }
  static void copy(const DeviceArray<unsigned char>& from, const DeviceArray<unsigned char>& to,
                   cudaStream_t stream) {
    EXPECT_EQ(cudaMemcpyAsync(to.data(), from.data(), kSize, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  }

  /// Runs `program` in every order and returns what it gave in each.
  template <typename Program>
  static std::vector<Bytes> run(const Program& program) {
    std::vector<Bytes> results;
    for (const std::string& each : orders()) {
      setenv("CUDA_ON_HOST_STREAMS", each.c_str(), 1);
      results.push_back(program());
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    return results;
  }
  static void expect_all(const std::vector<Bytes>& results, int value) {
    for (size_t i = 0; i < results.size(); ++i)
      EXPECT_EQ(results[i], Bytes(kSize, static_cast<unsigned char>(value))) << orders()[i];
  }
  /// A fault that nobody sees in the order of the calls, but some order shows.
  static void expect_seen(const std::vector<Bytes>& results, int value, const std::string& by) {
    const Bytes right(kSize, static_cast<unsigned char>(value));
    EXPECT_EQ(results[0], right) << "the order of the calls hides the fault";
    const auto at = static_cast<size_t>(std::find(orders().begin(), orders().end(), by) - orders().begin());
    EXPECT_NE(results[at], right) << by;
    EXPECT_TRUE(std::any_of(results.begin() + 3, results.end(), [&](const Bytes& x) { return x != right; }))
        << "no seed shows it";
  }

  cudaStream_t main_ = nullptr, side_ = nullptr;
  cudaEvent_t event_ = nullptr, join_ = nullptr;
};

TEST_F(SeveralStreams, WorkRunsWhenSomethingWaitsForIt) {
  setenv("CUDA_ON_HOST_STREAMS", "lazy", 1);
  const DeviceArray<unsigned char> x(kSize);
  set(x, 1, main_);
  EXPECT_EQ(x.data()[0], 0xff);
  set(x, 2, side_);
  EXPECT_EQ(cudaStreamSynchronize(side_), cudaSuccess);
  EXPECT_EQ(x.data()[0], 2) << "the other stream has not run";
  EXPECT_EQ(cudaStreamQuery(main_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(side_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(main_), cudaSuccess) << "whoever asks again waits";
  EXPECT_EQ(x.data()[0], 1);
  set(x, 3, main_);
  EXPECT_EQ(cudaEventRecord(event_, main_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  EXPECT_EQ(x.data()[0], 1);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(x.data()[0], 3);
}

TEST_F(SeveralStreams, PrioritiesAreKeptWithinTheRange) {
  int least = 1, greatest = 1, priority = 1;
  EXPECT_EQ(cudaDeviceGetStreamPriorityRange(&least, &greatest), cudaSuccess);
  EXPECT_EQ(least, 0);
  EXPECT_LT(greatest, 0);
  EXPECT_EQ(cudaStreamGetPriority(side_, &priority), cudaSuccess);
  EXPECT_EQ(priority, -1);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, -100), cudaSuccess);
  EXPECT_EQ(cudaStreamGetPriority(stream, &priority), cudaSuccess);
  EXPECT_EQ(priority, greatest);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(SeveralStreams, EventsOrderThem) {
  const auto program = [&](bool with_event) {
    return [&, with_event] {
      const DeviceArray<unsigned char> x(kSize), y(kSize);
      set(x, 7, main_);
      if (with_event) order(main_, side_);
      copy(x, y, side_);
      EXPECT_EQ(cudaStreamSynchronize(side_), cudaSuccess);
      return y.to_host();
    };
  };
  expect_all(run(program(true)), 7);
  expect_seen(run(program(false)), 7, "lazy");
}

// The main stream is waited for first: only an order that lets the other one go ahead shows the fault.
TEST_F(SeveralStreams, EventsOrderOverwritingAfterReading) {
  const auto program = [&](bool with_event) {
    return [&, with_event] {
      const DeviceArray<unsigned char> x(kSize), y(kSize);
      set(x, 7, main_);
      EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
      copy(x, y, main_);
      if (with_event) order(main_, side_);
      set(x, 9, side_);
      EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
      return y.to_host();
    };
  };
  expect_all(run(program(true)), 7);
  expect_seen(run(program(false)), 7, "opposite");
}

TEST_F(SeveralStreams, KernelsTakeTheirArgumentsAtTheCall) {
  const auto results = run([&] {
    const DeviceArray<uint16_t> x(kSize);
    EXPECT_EQ(cudaMemsetAsync(x.data(), 0, 2 * kSize, main_), cudaSuccess);
    float addend = 1;
    scale_bf16(x.data(), kSize, 1, addend, 32, main_);
    addend = 5;
    EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
    Bytes high;
    for (const uint16_t bits : x.to_host()) high.push_back(static_cast<unsigned char>(bits >> 8));
    return high;
  });
  expect_all(results, 0x3f);
}

class PinnedMemory : public SeveralStreams {
 protected:
  void SetUp() override {
    SeveralStreams::SetUp();
    ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned_), kSize), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    SeveralStreams::TearDown();
  }
  unsigned char* pinned_ = nullptr;
};

TEST_F(PinnedMemory, IsReadWhenTheCopyRuns) {
  const auto program = [&](bool wait) {
    return [&, wait] {
      const DeviceArray<unsigned char> x(kSize);
      std::memset(pinned_, 7, kSize);
      EXPECT_EQ(cudaMemcpyAsync(x.data(), pinned_, kSize, cudaMemcpyHostToDevice, main_), cudaSuccess);
      EXPECT_EQ(cudaEventRecord(event_, main_), cudaSuccess);
      if (wait) {
        EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
      }
      std::memset(pinned_, 9, kSize);
      EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
      return x.to_host();
    };
  };
  expect_all(run(program(true)), 7);
  expect_seen(run(program(false)), 7, "lazy");
}

TEST_F(PinnedMemory, IsWrittenWhenTheCopyRuns) {
  const auto program = [&](bool wait) {
    return [&, wait] {
      const DeviceArray<unsigned char> x(kSize);
      std::memset(pinned_, 0, kSize);
      set(x, 7, main_);
      EXPECT_EQ(cudaMemcpyAsync(pinned_, x.data(), kSize, cudaMemcpyDeviceToHost, main_), cudaSuccess);
      if (wait) {
        EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
      }
      return Bytes(pinned_, pinned_ + kSize);
    };
  };
  expect_all(run(program(true)), 7);
  setenv("CUDA_ON_HOST_STREAMS", "lazy", 1);
  EXPECT_EQ(program(false)(), Bytes(kSize, 0));
}

TEST_F(SeveralStreams, PageableMemoryIsTakenAndWrittenByTheCall) {
  expect_all(
      run([&] {
        const DeviceArray<unsigned char> x(kSize);
        Bytes host(kSize, 7);
        EXPECT_EQ(cudaMemcpyAsync(x.data(), host.data(), kSize, cudaMemcpyHostToDevice, main_), cudaSuccess);
        host.assign(kSize, 9);
        EXPECT_EQ(cudaMemcpyAsync(host.data(), x.data(), kSize, cudaMemcpyDeviceToHost, main_), cudaSuccess);
        return host;
      }),
      7);
}

TEST_F(SeveralStreams, TheLegacyStreamIsOrderedWithBlockingOnesOnly) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  const auto program = [&](cudaStream_t stream) {
    return [&, stream] {
      const DeviceArray<unsigned char> x(kSize), y(kSize), z(kSize);
      set(x, 7, stream);
      copy(x, y, nullptr);
      copy(y, z, stream);
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      return z.to_host();
    };
  };
  expect_all(run(program(blocking)), 7);
  expect_seen(run(program(main_)), 7, "lazy");
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

// Work that other processes take part in must not run before this process needs it: they may be waiting for
// something else from it.
TEST_F(SeveralStreams, HostFunctionsRunOnlyWhenNeeded) {
  for (const std::string& each : orders()) {
    if (each == "eager") continue;
    setenv("CUDA_ON_HOST_STREAMS", each.c_str(), 1);
    int runs = 0;
    const auto count = [](void* data) { ++*static_cast<int*>(data); };
    const DeviceArray<unsigned char> x(kSize);
    EXPECT_EQ(cudaLaunchHostFunc(side_, count, &runs), cudaSuccess);
    for (int i = 0; i < 5; ++i) set(x, i, main_);
    EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
    EXPECT_EQ(runs, 0) << each;
    order(side_, main_);
    EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
    EXPECT_EQ(runs, 1) << each;
  }
}

TEST_F(SeveralStreams, AnotherThreadMayWaitForThem) {
  setenv("CUDA_ON_HOST_STREAMS", "lazy", 1);
  const DeviceArray<uint16_t> x(kSize);
  EXPECT_EQ(cudaMemsetAsync(x.data(), 0, 2 * kSize, main_), cudaSuccess);
  scale_bf16(x.data(), kSize, 1, 1, 32, main_);
  std::thread([&] { EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess); }).join();
  EXPECT_EQ(x.data()[0], 0x3f80);
  scale_bf16(x.data(), kSize, 1, 1, 32, main_);
  EXPECT_EQ(x.to_host(), std::vector<uint16_t>(kSize, 0x3f80)) << "a copy on another stream does not wait";
  EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
  EXPECT_EQ(x.to_host(), std::vector<uint16_t>(kSize, 0x4000));
}

/// What is wrong with the capture of ForkAndJoin::program().
enum class Missing { nothing, fork, middle, join };

class ForkAndJoin : public SeveralStreams {
 protected:
  /// main: x = 7, y = x, z = y; the middle one on the side stream.
  Bytes program(Missing missing) {
    const DeviceArray<unsigned char> x(kSize), y(kSize), z(kSize);
    EXPECT_EQ(cudaStreamBeginCapture(main_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    order(main_, side_);  // the side stream joins the capture
    set(x, 7, main_);
    if (missing != Missing::fork) order(main_, side_);
    copy(x, y, side_);
    if (missing != Missing::middle) order(side_, main_);
    copy(y, z, main_);
    if (missing == Missing::middle) order(side_, main_);
    if (missing == Missing::join) set(y, 0, side_);
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(main_, &graph);
    if (missing == Missing::join) {
      EXPECT_EQ(ended, cudaErrorStreamCaptureUnjoined);
      EXPECT_EQ(graph, nullptr);
      return {};
    }
    EXPECT_EQ(ended, cudaSuccess);
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, main_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return z.to_host();
  }
};

TEST_F(ForkAndJoin, GraphsKeepWhatTheEventsSaid) {
  expect_all(run([&] { return program(Missing::nothing); }), 7);
  expect_seen(run([&] { return program(Missing::fork); }), 7, "opposite");
  expect_seen(run([&] { return program(Missing::middle); }), 7, "lazy");
  run([&] { return program(Missing::join); });
}

TEST_F(ForkAndJoin, ACaptureCannotWaitForWorkOutside) {
  EXPECT_EQ(cudaEventRecord(event_, side_), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(main_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(main_, event_, 0), cudaErrorStreamCaptureIsolation);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST(StreamsDeathTest, AnUnknownOrderIsRefused) {
  const DeviceArray<unsigned char> x(kSize);
  EXPECT_DEATH(
      {
        setenv("CUDA_ON_HOST_STREAMS", "sideways", 1);
        cudaMemsetAsync(x.data(), 0, kSize, nullptr);
      },
      "CUDA_ON_HOST_STREAMS is 'sideways': eager, lazy, opposite or a seed");
}

}  // namespace
}  // namespace depthroute::cuda::samples
