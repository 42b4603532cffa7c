#include "kernels/collectives/nccl_library.h"

#include <fmt/format.h>

#include "configs/base/error.h"
#include "kernels/shared_library.h"

namespace depthroute::nccl {

namespace {

/// Send and receive came with 2.7.
constexpr int kOldest = 2700;

/// 22809 -> "2.28.9"; up to 2.8 the numbers were 1000 * major + 100 * minor + patch.
std::string version_text(int number) {
  if (number < 10'000) return fmt::format("{}.{}.{}", number / 1000, number % 1000 / 100, number % 100);
  return fmt::format("{}.{}.{}", number / 10'000, number % 10'000 / 100, number % 100);
}

Library open() {
  Library found = {};
  SharedLibrary opened("NCCL", "DEPTHROUTE_NCCL_LIBRARY", {"libnccl.so.2", DEPTHROUTE_NCCL_FILE});
  opened.find("ncclGetVersion", &found.get_version);
  opened.find("ncclGetUniqueId", &found.get_unique_id);
  opened.find("ncclCommInitRank", &found.comm_init_rank);
  opened.find("ncclCommDestroy", &found.comm_destroy);
  opened.find("ncclCommAbort", &found.comm_abort);
  opened.find("ncclCommGetAsyncError", &found.comm_get_async_error);
  opened.find("ncclGetErrorString", &found.get_error_string);
  opened.find("ncclReduceScatter", &found.reduce_scatter);
  opened.find("ncclAllGather", &found.all_gather);
  opened.find("ncclBroadcast", &found.broadcast);
  opened.find("ncclSend", &found.send);
  opened.find("ncclRecv", &found.recv);
  opened.find("ncclGroupStart", &found.group_start);
  opened.find("ncclGroupEnd", &found.group_end);
  found.unavailable = opened.problem();
  if (!found.unavailable.empty()) return found;
  int version = 0;
  if (found.get_version(&version) != ncclSuccess) {
    found.unavailable = "NCCL does not tell its version";
    return found;
  }
  found.version = version_text(version);
  if (version < kOldest) found.unavailable = fmt::format("NCCL {} is too old: 2.7 is needed", found.version);
  return found;
}

}  // namespace

const Library& library() {
  static const Library opened = open();
  return opened;
}

void call_failed(ncclResult_t result, const char* call, const char* file, int line) {
  throw SystemError("NCCL: {} from {} at {}:{}", library().get_error_string(result), call, file, line);
}

}  // namespace depthroute::nccl
