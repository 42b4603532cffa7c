#include <omp.h>

#include <cstdlib>

#include "configs/base/error.h"
#include "kernels/cuda/device.h"
#include "kernels/device.h"
#include "kernels/op_table.h"
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

template <typename Error, typename F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Device, NamesResolveOrSayWhatToDo) {
  EXPECT_EQ(resolve_device(DeviceChoice::cpu), Device::cpu);
  EXPECT_NE(message_of<ConfigError>([] { parse_or_fail<DeviceChoice>("device", "gpu"); }).find("'gpu'"),
            std::string::npos);
  if (cuda::unavailable().empty()) {
    EXPECT_EQ(resolve_device(DeviceChoice::automatic), Device::cuda);
    EXPECT_EQ(resolve_device(DeviceChoice::cuda), Device::cuda);
    return;
  }
  EXPECT_EQ(resolve_device(DeviceChoice::automatic), Device::cpu);
  const std::string message = message_of<ConfigError>([] { resolve_device(DeviceChoice::cuda); });
  EXPECT_NE(message.find(cuda::unavailable()), std::string::npos) << message;
  EXPECT_NE(message.find("device: cpu"), std::string::npos) << message;
}

// A build with CUDA can plan sizes on any machine; a build without cannot.
TEST(Device, PlanningNeedsABuildAndNoGpu) {
  if (cuda::built()) {
    EXPECT_EQ(resolve_device(DeviceChoice::cuda, Use::planning), Device::cuda);
  } else {
    EXPECT_THROW(resolve_device(DeviceChoice::cuda, Use::planning), ConfigError);
  }
}

TEST(Device, OnlyShapesTheKernelsCanComputeAreSupported) {
  EXPECT_EQ(ops::unsupported(Device::cpu, 33, 7, 6), "");
  EXPECT_EQ(ops::unsupported(Device::cuda, 1024, 3072, 128), "");
  EXPECT_NE(ops::unsupported(Device::cuda, 36, 3072, 128).find("hidden_size = 36"), std::string::npos);
  EXPECT_NE(ops::unsupported(Device::cuda, 1024, 3070, 128).find("intermediate_size"), std::string::npos);
  EXPECT_NE(ops::unsupported(Device::cuda, 1024, 3072, 100).find("head_dim = 100"), std::string::npos);
  EXPECT_NE(ops::unsupported(Device::cuda, 1024, 3072, 264).find("above 256"), std::string::npos);
  EXPECT_NE(ops::unsupported(Device::cuda, 32776, 3072, 128).find("above 32768"), std::string::npos);
}

TEST(Device, DescriptionNamesThreadsAndBlas) {
  EXPECT_EQ(describe(Device::cpu).rfind("cpu: ", 0), 0u);
  EXPECT_NE(describe(Device::cpu).find("OpenBLAS "), std::string::npos);
}

TEST(Device, MemoryIsZeroAndAligned) {
  for (int64_t bytes : {int64_t{1}, int64_t{4096}, int64_t{5} << 20}) {
    auto* block = static_cast<unsigned char*>(device_allocate(Device::cpu, bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 256, 0u);
    int64_t not_zero = 0;
    for (int64_t i = 0; i < bytes; ++i) not_zero += block[i] != 0;
    EXPECT_EQ(not_zero, 0);
    device_free(Device::cpu, block, bytes);
  }
}

TEST(Device, TooMuchMemoryIsAnErrorThatNamesTheSize) {
  const auto message_for = [](int64_t bytes) {
    return message_of<SystemError>([=] { device_allocate(Device::cpu, bytes); });
  };
  EXPECT_NE(message_for(int64_t{1} << 52).find("4194304.00 GiB"), std::string::npos);
  EXPECT_NE(message_for(std::numeric_limits<int64_t>::max()).find("9223372036854775807"), std::string::npos);
}

TEST(Device, AGpuThatIsNotThereIsAnErrorNotACrash) {
  if (cuda::unavailable().empty()) GTEST_SKIP() << "there is a GPU here";
  if (!cuda::built()) {
    EXPECT_DEATH(make_stream(Device::cuda), "no backend");
    EXPECT_DEATH(op_table(Device::cuda), "no kernels for the device");
    return;
  }
  EXPECT_NE(message_of<SystemError>([] { make_stream(Device::cuda); }).find(cuda::unavailable()),
            std::string::npos);
  EXPECT_NE(message_of<SystemError>([] { device_allocate(Device::cuda, 16); }).find(cuda::unavailable()),
            std::string::npos);
  EXPECT_NE(describe(Device::cuda).find(cuda::unavailable()), std::string::npos);
}

// The child process either returns from prepare_process (nothing to improve) or becomes this test program
// again, running only this test, which then checks the settings it was given.
TEST(DeviceDeathTest, PrepareProcessRestartsOnceAtMostAndOnlyUnasked) {
  constexpr int kReturned = 77;
  const auto prepare = [] {
    char program[] = "self";
    char filter[] = "--gtest_filter=DeviceDeathTest.PrepareProcess*";
    char* argv[] = {program, filter, nullptr};
    prepare_process(argv);
    std::_Exit(kReturned);
  };
  const char* const kPolicy = "OMP_WAIT_POLICY";
  if (std::getenv("DEPTHROUTE_RESTARTED")) {
    EXPECT_STREQ(std::getenv(kPolicy), "passive");
    if (std::getenv("OPENBLAS_CORETYPE") == std::string("SkylakeX")) {
      EXPECT_NE(describe(Device::cpu).find("SkylakeX"), std::string::npos);
    }
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv(kPolicy);
    EXPECT_EXIT(prepare(), testing::ExitedWithCode(kReturned), "");  // not a second time
    return;
  }
  const auto restarted_or_returned = [](int status) {
    return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kReturned);
  };
  setenv(kPolicy, "passive", 1);
  unsetenv("OPENBLAS_CORETYPE");
  EXPECT_EXIT(prepare(), restarted_or_returned, "");
  setenv("OPENBLAS_CORETYPE", "Haswell", 1);  // the user's choice stays
  EXPECT_EXIT(prepare(), testing::ExitedWithCode(kReturned), "");
  unsetenv(kPolicy);
  // A single thread never waits for others.
  const int restarted = omp_get_max_threads() > 1 ? 0 : kReturned;
  EXPECT_EXIT(prepare(), testing::ExitedWithCode(restarted), "");
  for (const char* choice : {kPolicy, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"}) {
    setenv(choice, "1", 1);
    EXPECT_EXIT(prepare(), testing::ExitedWithCode(kReturned), "") << choice;
    unsetenv(choice);
  }
  unsetenv("OPENBLAS_CORETYPE");
}

}  // namespace
}  // namespace depthroute
