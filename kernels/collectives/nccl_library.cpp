#include "kernels/collectives/nccl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "configs/base/error.h"

namespace depthroute::nccl {

namespace {

/// Send and receive came with 2.7.
constexpr int kOldest = 2700;

/// 22809 -> "2.28.9"; up to 2.8 the numbers were 1000 * major + 100 * minor + patch.
std::string version_text(int number) {
  if (number < 10'000) return fmt::format("{}.{}.{}", number / 1000, number % 1000 / 100, number % 100);
  return fmt::format("{}.{}.{}", number / 10'000, number % 10'000 / 100, number % 100);
}

void* open_library(std::string* failure) {
  const char* named = std::getenv("DEPTHROUTE_NCCL_LIBRARY");
  const std::vector<std::string> files = named && *named
                                             ? std::vector<std::string>{named}
                                             : std::vector<std::string>{"libnccl.so.2", DEPTHROUTE_NCCL_FILE};
  for (const std::string& file : files) {
    if (file.empty()) continue;
    if (void* opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return opened;
    if (failure->empty()) *failure = fmt::format("NCCL cannot be loaded: {}", dlerror());
  }
  return nullptr;
}

template <typename Function>
void find(void* opened, const char* name, Function* function, std::string* failure) {
  *function = reinterpret_cast<Function>(dlsym(opened, name));
  if (!*function && failure->empty()) *failure = fmt::format("the NCCL library has no {}", name);
}

Library open() {
  Library found = {};
  std::string failure;
  void* opened = open_library(&failure);
  if (!opened) {
    found.unavailable = failure;
    return found;
  }
  failure.clear();
  find(opened, "ncclGetVersion", &found.get_version, &failure);
  find(opened, "ncclGetUniqueId", &found.get_unique_id, &failure);
  find(opened, "ncclCommInitRank", &found.comm_init_rank, &failure);
  find(opened, "ncclCommDestroy", &found.comm_destroy, &failure);
  find(opened, "ncclCommAbort", &found.comm_abort, &failure);
  find(opened, "ncclCommGetAsyncError", &found.comm_get_async_error, &failure);
  find(opened, "ncclGetErrorString", &found.get_error_string, &failure);
  find(opened, "ncclReduceScatter", &found.reduce_scatter, &failure);
  find(opened, "ncclAllGather", &found.all_gather, &failure);
  find(opened, "ncclBroadcast", &found.broadcast, &failure);
  find(opened, "ncclSend", &found.send, &failure);
  find(opened, "ncclRecv", &found.recv, &failure);
  find(opened, "ncclGroupStart", &found.group_start, &failure);
  find(opened, "ncclGroupEnd", &found.group_end, &failure);
  int version = 0;
  if (failure.empty() && found.get_version(&version) != ncclSuccess)
    failure = "NCCL does not tell its version";
  found.version = version_text(version);
  if (failure.empty() && version < kOldest)
    failure = fmt::format("NCCL {} is too old: 2.7 is needed", found.version);
  found.unavailable = failure;
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
