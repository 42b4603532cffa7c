// The collectives on host memory, over MPI, in the thread that calls them. In place; the rules are those of
// collectives.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/collectives/mpi_calls.h"
#include "kernels/tensor.h"

namespace depthroute {

class HostExchange {
 public:
  /// `comm` is for this object alone. Calls throw CollectiveTimeout after `timeout` seconds or once *give_up
  /// is true.
  HostExchange(MPI_Comm comm, double timeout, const std::atomic<bool>& give_up);

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Returns the floats of scratch that the pieces of the other ranks take.
  int64_t workspace(int64_t numel) const { return numel / size_ * (size_ - 1); }
  void reduce_scatter(float* x, int64_t numel, float* workspace);
  void all_gather(std::byte* x, int64_t bytes);
  void all_reduce(void* x, int64_t numel, DType dtype);
  void broadcast(std::byte* x, int64_t bytes, int root);
  void barrier();

  int64_t bytes_sent() const { return bytes_sent_; }

 private:
  BackoffOptions backoff_options(const char* call, bool bulk = false) const {
    return {call, timeout_, &give_up_, bulk};
  }
  /// Waits with long naps until all ranks have come; what follows is then polled for often.
  void meet(const char* call);
  void send(const std::byte* data, int64_t bytes, int to);
  void receive(std::byte* data, int64_t bytes, int from);
  template <typename T>
  void sum_over_ranks(T* x, int64_t numel);

  MPI_Comm comm_;
  int rank_ = 0, size_ = 1;
  double timeout_;
  const std::atomic<bool>& give_up_;
  std::vector<MPI_Request> requests_;
  std::vector<std::byte> gathered_;  // of all_reduce
  std::atomic<int64_t> bytes_sent_ = 0;
};

}  // namespace depthroute
