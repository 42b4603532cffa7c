// Decisions about fused attention that need neither cuDNN nor a GPU, so that tests can make every one of them.
#pragma once

#include <cstdint>
#include <string>

namespace depthroute::cuda {

/// 91900 -> "9.19.0", as cuDNN 9 numbers its versions.
std::string fused_version_text(int version);

/// Returns why the library that was found at run time is not used, or "".
std::string fused_version_refusal(int version);

/// Returns whether the backward pass of cudnn-frontend copies a few numbers from pageable host memory each time:
/// up to cuDNN 9.15.0 it masks padding itself where T is not a multiple of 128. A CUDA graph cannot record that.
bool fused_backward_copies_from_host(int version, int64_t seq_len);

/// SystemError if a plan needs more scratch than there is. `what` is the attention that was asked for.
void check_fused_workspace(const std::string& what, int64_t needed, int64_t given);

}  // namespace depthroute::cuda
