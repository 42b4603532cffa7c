// What is decided about cuDNN without it: which versions are used and what they cannot do, scratch that is too small;
// and that neither it nor NVRTC is loaded before a GPU is used.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "configs/base/error.h"
#include "kernels/cuda/fused_attention.h"
#include "kernels/cuda/fused_attention_rules.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

std::string mapped_files() {
  std::ifstream maps("/proc/self/maps");
  return {std::istreambuf_iterator<char>(maps), {}};
}
const std::string mapped_at_start = mapped_files();  // before a test asks for a plan

TEST(FusedAttentionRules, VersionsAreReadAsCudnnWritesThem) {
  EXPECT_EQ(fused_version_text(91900), "9.19.0");
  EXPECT_EQ(fused_version_text(91002), "9.10.2");
}

TEST(FusedAttentionRules, AnOldLibraryIsNotUsed) {
  EXPECT_EQ(fused_version_refusal(91100), "");
  EXPECT_EQ(fused_version_refusal(92300), "");
  for (const int old : {91002, 90100, 8907}) EXPECT_NE(fused_version_refusal(old), "");
  EXPECT_EQ(fused_version_refusal(91002), "cuDNN 9.10.2 is too old: 9.11.0 is needed");
}

TEST(FusedAttentionRules, UpTo915PaddingIsCopiedFromTheHost) {
  EXPECT_TRUE(fused_backward_copies_from_host(91500, 1000));
  EXPECT_TRUE(fused_backward_copies_from_host(91100, 77));
  EXPECT_FALSE(fused_backward_copies_from_host(91500, 2048));
  EXPECT_FALSE(fused_backward_copies_from_host(91501, 1000));
  EXPECT_FALSE(fused_backward_copies_from_host(91900, 77));
  EXPECT_FALSE(fused_backward_copies_from_host(0, 77)) << "no cuDNN";
}

TEST(FusedAttentionRules, TooLittleScratchIsAnErrorWithTheNumbers) {
  EXPECT_NO_THROW(check_fused_workspace("attention", 4096, 4096));
  try {
    check_fused_workspace("attention backward of 3 x 77 tokens", 4097, 4096);
    FAIL();
  } catch (const SystemError& error) {
    const std::string text = error.what();
    for (const char* part : {"4097", "4096", "attention backward of 3 x 77 tokens", "train.micro_batch"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
}

// In processes of their own, and before other tests (a death test): a library is opened once.
TEST(LibrariesDeathTest, WhatCannotBeUsedIsNamed) {
#ifndef DEPTHROUTE_HAVE_CUDNN
  GTEST_SKIP() << "built without cuDNN";
#endif
  const auto open = [](const char* file) {
    setenv("DEPTHROUTE_CUDNN_LIBRARY", file, 1);
    std::cerr << fused_attention_absent();
    std::exit(fused_attention_absent().empty() || fused_attention_version() != 0 ? 1 : 0);
  };
  EXPECT_EXIT(open("/nowhere/libcudnn.so.9"), testing::ExitedWithCode(0),
              "cuDNN cannot be loaded: /nowhere/libcudnn.so.9.*DEPTHROUTE_CUDNN_LIBRARY");
  EXPECT_EXIT(open("libc.so.6"), testing::ExitedWithCode(0), "libc.so.6.*has no cudnnGetVersion");
}

TEST(Libraries, AreNotLoadedBeforeAGpuIsUsed) {
  ASSERT_NE(mapped_at_start.find("libc.so"), std::string::npos);
  for (const char* library : {"libcudnn", "libnvrtc"})
    EXPECT_EQ(mapped_at_start.find(library), std::string::npos) << library;
}

// The table refers to every op, and so brings every op's kernels into this program: about 330.
TEST(Libraries, EveryKernelOfTheProgramIsKnown) {
  ASSERT_NE(op_table(), nullptr);
  EXPECT_GT(num_kernels(), 100);
}

}  // namespace
}  // namespace depthroute::cuda
