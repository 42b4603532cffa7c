// Bulk exchange between ranks, on tensors of one device: host memory through MPI, device memory through NCCL,
// or staged through the host over MPI. All calls are asynchronous and in place: a call takes what `stream`
// has computed so far, runs beside it in the order of the calls, and is over for `stream` after wait(). Until
// then its tensors must not be touched. All ranks make the same calls in the same order.
//
// A piece is an equal part of a tensor: x [size * k] has the pieces x[r * k, (r + 1) * k) of ranks r.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute {

struct CollectivesOptions {
  /// reduce_scatter adds in a pairwise tree over ranks: ((x0 + x1) + (x2 + x3)) + ..., elementwise in float32
  /// with what is left over carried up, so that where size is a power of two the ranks' sums can themselves
  /// be parts of a larger tree. Otherwise in whichever order is fastest; the same bits on all ranks always.
  bool deterministic = false;
  /// For cuda tensors. `automatic` is nccl if every rank of a machine has its own GPU and NCCL is installed.
  CollectiveBackend backend = CollectiveBackend::automatic;
  double timeout = 600;  // seconds a call may take
};

class Collectives {
 public:
  using Ticket = uint64_t;  // of a call; later calls have larger ones

  virtual ~Collectives() = default;
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// One line for logs, e.g. "4 processes, MPI".
  virtual std::string describe() const = 0;

  /// Floats of scratch reduce_scatter needs for x of `numel` elements; may be 0.
  virtual int64_t reduce_scatter_workspace(int64_t numel) const = 0;
  /// x [size * k] f32: afterwards this rank's piece is the sum over ranks of that piece; the others are
  /// undefined.
  virtual Ticket reduce_scatter(Stream stream, const Tensor& x, const Tensor& workspace) = 0;
  /// x [size * k], any dtype: every piece from its rank.
  virtual Ticket all_gather(Stream stream, const Tensor& x) = 0;
  /// x [any] f32 or f64: the sum over ranks, in the order of ranks.
  virtual Ticket all_reduce(Stream stream, const Tensor& x) = 0;
  /// x of rank `root`, everywhere.
  virtual Ticket broadcast(Stream stream, const Tensor& x, int root) = 0;
  virtual void barrier() = 0;

  /// What is put on `stream` from now on comes after the call, and after all earlier ones.
  virtual void wait(Stream stream, Ticket ticket) = 0;
  /// synchronize(stream) that does not wait for ever: CollectiveTimeout when a call it depends on has taken
  /// longer than options.timeout, SystemError when one failed.
  virtual void synchronize(Stream stream) = 0;

  /// Ends all calls because this process leaves while an exception passes through; waits for others no longer
  /// than a few seconds. Their tensors may be freed afterwards. No further call may be made.
  virtual void leave() {}

  struct Statistics {
    int64_t calls = 0;
    int64_t bytes = 0;           // sent by this rank
    double busy_seconds = 0;     // from the start of calls to their end
    double exposed_seconds = 0;  // of these, spent waiting by the caller
  };
  virtual Statistics statistics() const = 0;

 protected:
  Collectives(int rank, int size) : rank_(rank), size_(size) {}

 private:
  int rank_, size_;
};

}  // namespace depthroute
