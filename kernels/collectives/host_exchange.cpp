#include "kernels/collectives/host_exchange.h"

#include <algorithm>
#include <cstring>

#include "kernels/collectives/pairwise_tree.h"

namespace depthroute {

namespace {
constexpr int kTag = 0;  // messages between two ranks do not overtake each other
}

HostExchange::HostExchange(MPI_Comm comm, double timeout, const std::atomic<bool>& give_up)
    : comm_(comm), timeout_(timeout), give_up_(give_up) {
  DR_MPI_CHECK(MPI_Comm_rank(comm_, &rank_));
  DR_MPI_CHECK(MPI_Comm_size(comm_, &size_));
}

void HostExchange::barrier() { meet("barrier"); }

void HostExchange::meet(const char* call) {
  MPI_Request request = MPI_REQUEST_NULL;
  DR_MPI_CHECK(MPI_Ibarrier(comm_, &request));
  mpi::complete(request, backoff_options(call));
}

void HostExchange::send(const std::byte* data, int64_t bytes, int to) {
  for (int64_t at = 0; at < bytes; at += mpi::max_message_bytes)
    DR_MPI_CHECK(MPI_Isend(data + at, narrow<int>(std::min(bytes - at, mpi::max_message_bytes)), MPI_BYTE, to,
                           kTag, comm_, &requests_.emplace_back(MPI_REQUEST_NULL)));
  bytes_sent_ += bytes;
}

void HostExchange::receive(std::byte* data, int64_t bytes, int from) {
  for (int64_t at = 0; at < bytes; at += mpi::max_message_bytes)
    DR_MPI_CHECK(MPI_Irecv(data + at, narrow<int>(std::min(bytes - at, mpi::max_message_bytes)), MPI_BYTE,
                           from, kTag, comm_, &requests_.emplace_back(MPI_REQUEST_NULL)));
}

// Every rank sends each piece to its owner, who adds them. Any rank's sum takes the same steps, so it does
// not matter who owns what. Traffic is what the best algorithms need: (size - 1) / size of x out, as much in.
void HostExchange::reduce_scatter(float* x, int64_t numel, float* workspace) {
  const int64_t piece = div_exact(numel, size_);
  const int64_t bytes = piece * size_of(DType::f32);
  meet("reduce_scatter");
  requests_.clear();
  std::vector<const float*> parts(static_cast<size_t>(size_));
  parts[static_cast<size_t>(rank_)] = x + rank_ * piece;
  // Everybody starts with another neighbour: no rank is sent to by all at once.
  for (int step = 1; step < size_; ++step) {
    const int from = (rank_ - step + size_) % size_;
    float* slot = workspace + (step - 1) * piece;
    parts[static_cast<size_t>(from)] = slot;
    receive(reinterpret_cast<std::byte*>(slot), bytes, from);
  }
  for (int step = 1; step < size_; ++step) {
    const int to = (rank_ + step) % size_;
    send(reinterpret_cast<const std::byte*>(x + to * piece), bytes, to);
  }
  mpi::complete(requests_, backoff_options("reduce_scatter", true));
  sum_pairwise(parts, piece, x + rank_ * piece);
}

void HostExchange::all_gather(std::byte* x, int64_t bytes) {
  const int64_t piece = div_exact(bytes, size_);
  meet("all_gather");
  requests_.clear();
  for (int step = 1; step < size_; ++step) {
    const int from = (rank_ - step + size_) % size_;
    receive(x + from * piece, piece, from);
  }
  for (int step = 1; step < size_; ++step) send(x + rank_ * piece, piece, (rank_ + step) % size_);
  mpi::complete(requests_, backoff_options("all_gather", true));
}

// For small tensors (norms, losses): everybody gets everything and adds it in the order of ranks.
template <typename T>
void HostExchange::sum_over_ranks(T* x, int64_t numel) {
  constexpr int64_t kBlock = int64_t{1} << 16;  // of a large one, so many at a time
  gathered_.resize(static_cast<size_t>(std::min(kBlock, numel) * size_) * sizeof(T));
  for (int64_t begin = 0; begin < numel; begin += kBlock) {
    const int64_t n = std::min(kBlock, numel - begin);
    const int bytes = narrow<int>(n * static_cast<int64_t>(sizeof(T)));
    MPI_Request request = MPI_REQUEST_NULL;
    DR_MPI_CHECK(
        MPI_Iallgather(x + begin, bytes, MPI_BYTE, gathered_.data(), bytes, MPI_BYTE, comm_, &request));
    mpi::complete(request, backoff_options("all_reduce"));
    bytes_sent_ += int64_t{bytes} * (size_ - 1);
    const T* all = reinterpret_cast<const T*>(gathered_.data());  // [size, n]
    std::copy_n(all, n, x + begin);
    for (int r = 1; r < size_; ++r)
      for (int64_t i = 0; i < n; ++i) x[begin + i] += all[r * n + i];
  }
}

void HostExchange::all_reduce(void* x, int64_t numel, DType dtype) {
  DR_CHECK(dtype == DType::f32 || dtype == DType::f64);
  if (dtype == DType::f32) return sum_over_ranks(static_cast<float*>(x), numel);
  sum_over_ranks(static_cast<double*>(x), numel);
}

void HostExchange::broadcast(std::byte* x, int64_t bytes, int root) {
  meet("broadcast");
  for (int64_t at = 0; at < bytes; at += mpi::max_message_bytes) {
    const int64_t count = std::min(bytes - at, mpi::max_message_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    DR_MPI_CHECK(MPI_Ibcast(x + at, narrow<int>(count), MPI_BYTE, root, comm_, &request));
    mpi::complete(request, backoff_options("broadcast", true));
  }
  if (rank_ == root) bytes_sent_ += bytes;
}

}  // namespace depthroute
