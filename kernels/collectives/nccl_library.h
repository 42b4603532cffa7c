// NCCL's functions, from a library that is opened when first asked for: processes that do not use it never
// load it, and installed programs run without it.
#pragma once

#include <nccl.h>

#include <string>

namespace depthroute::nccl {

/// Of the functions' names and types nccl.h decides.
struct Library {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRank) comm_init_rank;
  decltype(&ncclCommDestroy) comm_destroy;
  decltype(&ncclCommAbort) comm_abort;
  decltype(&ncclCommGetAsyncError) comm_get_async_error;
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclReduceScatter) reduce_scatter;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclBroadcast) broadcast;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;

  std::string unavailable;  // why there is no library, or ""
  std::string version;      // e.g. "2.28.9"
};
/// Opened by the first call: the file DEPTHROUTE_NCCL_LIBRARY names in the environment, or libnccl.so.2 where
/// the loader finds it or where it was when this was built.
const Library& library();

[[noreturn]] void call_failed(ncclResult_t result, const char* call, const char* file, int line);

/// A failure becomes a SystemError that names the call, the place and NCCL's own words.
#define DR_NCCL_CHECK(call)                                                  \
  do {                                                                       \
    if (const ncclResult_t dr_result = (call); dr_result != ncclSuccess)     \
      ::depthroute::nccl::call_failed(dr_result, #call, __FILE__, __LINE__); \
  } while (false)

}  // namespace depthroute::nccl
