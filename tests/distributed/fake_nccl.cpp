// What depthroute uses of NCCL, on host memory by means of MPI: so that nccl_collectives.cpp runs for real in
// several processes on the emulated device. A call becomes work of its stream, like NCCL's: it waits for the
// other processes when the stream gets there. FAKE_NCCL_BROKEN=1: the communicator reports an error of another
// process. Programs that load this must export the emulated runtime's functions (ENABLE_EXPORTS).
#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

struct ncclComm {
  MPI_Comm mpi;
  int rank, size;
  bool aborted;
};

namespace {

constexpr char kId[] = "an id of the fake NCCL";
int group_depth = 0;
/// Sends and receives of the open group, which start together.
struct Message {
  ncclComm_t comm;
  cudaStream_t stream;
  std::function<void(std::vector<MPI_Request>&)> start;
};
std::vector<Message> group;

/// A wrong call ends the test at once, on all ranks.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fake NCCL: error: %s\n", what);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

size_t bytes_of(size_t count, ncclDataType_t type) {
  require(type == ncclInt8 || type == ncclFloat32, "a data type the fake does not know");
  return type == ncclInt8 ? count : count * sizeof(float);
}

char* piece_of(void* buffer, size_t bytes, int rank) {
  return static_cast<char*>(buffer) + bytes * static_cast<size_t>(rank);
}

/// Gives `body` to the stream. An aborted communicator waits for nobody.
void enqueue(ncclComm_t comm, cudaStream_t stream, std::function<void()> body) {
  auto work = std::make_unique<std::function<void()>>([comm, body = std::move(body)] {
    if (!comm->aborted) body();
  });
  const cudaHostFn_t run = [](void* data) {
    const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(data));
    (*mine)();
  };
  require(cudaLaunchHostFunc(stream, run, work.release()) == cudaSuccess, "the stream takes no work");
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t) { return "an error of the fake NCCL"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::strcpy(id->internal, kId);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  require(std::strcmp(id.internal, kId) == 0, "the id did not arrive");
  *comm = new ncclComm{MPI_COMM_NULL, 0, 0, false};
  MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->mpi);
  MPI_Comm_rank((*comm)->mpi, &(*comm)->rank);
  MPI_Comm_size((*comm)->mpi, &(*comm)->size);
  require((*comm)->rank == rank && (*comm)->size == size, "rank or size");
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  MPI_Comm_free(&comm->mpi);
  delete comm;
  return ncclSuccess;
}

// Work of the stream may still point at it: it is not deleted.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->aborted = true;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* state) {
  *state = std::getenv("FAKE_NCCL_BROKEN") ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const size_t bytes = bytes_of(count, type);
  enqueue(comm, stream, [=] {
    const std::vector<char> mine(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    MPI_Allgather(mine.data(), static_cast<int>(bytes), MPI_BYTE, to, static_cast<int>(bytes), MPI_BYTE,
                  comm->mpi);
  });
  return ncclSuccess;
}

// In the order of ranks: not the tree, so that tests see which of the two ran.
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  require(type == ncclFloat32 && op == ncclSum, "reduce_scatter of another type or operation");
  require(to == piece_of(const_cast<void*>(from), count * sizeof(float), comm->rank), "not in place");
  enqueue(comm, stream, [=] {
    const size_t size = static_cast<size_t>(comm->size);
    std::vector<float> all(count * size);
    MPI_Alltoall(from, static_cast<int>(count), MPI_FLOAT, all.data(), static_cast<int>(count), MPI_FLOAT,
                 comm->mpi);
    float* sum = static_cast<float*>(to);
    for (size_t i = 0; i < count; ++i) {
      sum[i] = all[i];
      for (size_t r = 1; r < size; ++r) sum[i] += all[r * count + i];
    }
  });
  return ncclSuccess;
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  require(from == to, "not in place");
  const int bytes = static_cast<int>(bytes_of(count, type));
  enqueue(comm, stream, [=] { MPI_Bcast(to, bytes, MPI_BYTE, root, comm->mpi); });
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0 || group.empty()) return ncclSuccess;
  const ncclComm_t comm = group[0].comm;
  const cudaStream_t stream = group[0].stream;
  for (const Message& message : group)
    require(message.comm == comm && message.stream == stream, "a group on several streams");
  enqueue(comm, stream, [messages = std::exchange(group, {})] {
    std::vector<MPI_Request> requests;
    for (const Message& message : messages) message.start(requests);
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  });
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  require(group_depth > 0, "a send by itself waits for ever");
  const int bytes = static_cast<int>(bytes_of(count, type));
  group.push_back({comm, stream, [=](std::vector<MPI_Request>& requests) {
                     MPI_Isend(from, bytes, MPI_BYTE, peer, 0, comm->mpi, &requests.emplace_back());
                   }});
  return ncclSuccess;
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  require(group_depth > 0, "a receive by itself waits for ever");
  const int bytes = static_cast<int>(bytes_of(count, type));
  group.push_back({comm, stream, [=](std::vector<MPI_Request>& requests) {
                     MPI_Irecv(to, bytes, MPI_BYTE, peer, 0, comm->mpi, &requests.emplace_back());
                   }});
  return ncclSuccess;
}

}  // extern "C"
