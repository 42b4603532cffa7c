// Collectives of device memory through NCCL, on a stream of their own.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <vector>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "kernels/collectives/backends.h"
#include "kernels/collectives/backoff.h"
#include "kernels/collectives/nccl_library.h"
#include "kernels/collectives/pairwise_tree.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/sum_rows.h"
#include "kernels/ops/ops.h"

namespace depthroute {

namespace {

std::byte* bytes_of(const Tensor& x) { return static_cast<std::byte*>(x.pointer); }

/// A call that was given to the stream, until it is over and its times are counted.
struct Call {
  explicit Call(Collectives::Ticket number) : ticket(number) {}

  Collectives::Ticket ticket;
  cuda::Event begin{true}, end{true};
  std::unique_ptr<cuda::Event> waiting;  // from when a stream stood waiting for it
};

class NcclCollectives : public Collectives {
 public:
  NcclCollectives(int rank, int size, const ncclUniqueId& id, const CollectivesOptions& options);
  ~NcclCollectives() override;

  std::string describe() const override {
    return fmt::format("{} process{}, NCCL {}{}", size(), size() == 1 ? "" : "es", nccl_.version,
                       deterministic_ ? ", sums in a fixed order" : "");
  }

  int64_t reduce_scatter_workspace(int64_t numel) const override {
    return deterministic_ ? div_exact(numel, size()) * (size() - 1) : 0;
  }
  Ticket reduce_scatter(Stream stream, const Tensor& x, const Tensor& workspace) override;
  Ticket all_gather(Stream stream, const Tensor& x) override;
  Ticket all_reduce(Stream stream, const Tensor& x) override;
  Ticket broadcast(Stream stream, const Tensor& x, int root) override;
  void barrier() override;

  void wait(Stream stream, Ticket ticket) override;
  void synchronize(Stream stream) override { synchronize(stream, "a GPU's work"); }
  void leave() override;
  Statistics statistics() const override { return statistics_; }

 private:
  /// Puts body() on our stream, after what `stream` has been given so far. `sent`: bytes of this process.
  template <typename Body>
  Ticket call(Stream stream, int64_t sent, const Body& body);
  void sum_in_tree(const Tensor& x, const Tensor& workspace);
  void synchronize(Stream stream, const char* what);
  void check_health() const;
  void count_finished();
  void check(Stream stream, const Tensor& x) const {
    DR_CHECK(stream.device == Device::cuda && x.device == Device::cuda && x.defined() && x.contiguous());
  }
  cudaStream_t raw() const { return static_cast<cudaStream_t>(stream_.get().handle); }

  const nccl::Library& nccl_ = nccl::library();
  bool deterministic_;
  double timeout_;
  ncclComm_t comm_ = nullptr;
  cuda::SeparateStream stream_{cuda::Urgency::urgent};
  Ticket last_ = 0;
  std::deque<std::unique_ptr<Call>> calls_;  // in their order
  Statistics statistics_;
  Tensor gathered_;  // of all_reduce: [size * numel]; grows
  Tensor token_;     // of barrier
};

Tensor allocate(int64_t bytes) {
  return {device_allocate(Device::cuda, bytes), {bytes / size_of(DType::f32)}, DType::f32, Device::cuda};
}

NcclCollectives::NcclCollectives(int rank, int size, const ncclUniqueId& id,
                                 const CollectivesOptions& options)
    : Collectives(rank, size), deterministic_(options.deterministic), timeout_(options.timeout) {
  DR_NCCL_CHECK(nccl_.comm_init_rank(&comm_, size, id, rank));
  token_ = allocate(size_of(DType::f32) * size);
}

NcclCollectives::~NcclCollectives() {
  // Destroying waits for the others; while this process is leaving they may not come.
  if (std::uncaught_exceptions() > 0) leave();
  try {
    if (comm_) synchronize(stream_.get(), "the end");
  } catch (const std::exception&) {
    leave();
  }
  if (comm_) (void)nccl_.comm_destroy(comm_);
  if (gathered_.defined()) device_free(Device::cuda, gathered_.pointer, gathered_.bytes());
  device_free(Device::cuda, token_.pointer, token_.bytes());
}

void NcclCollectives::leave() {
  if (comm_) (void)nccl_.comm_abort(comm_);
  comm_ = nullptr;
}

template <typename Body>
Collectives::Ticket NcclCollectives::call(Stream stream, int64_t sent, const Body& body) {
  count_finished();
  auto made = std::make_unique<Call>(++last_);
  cuda::Event ready;
  ready.record(stream);
  ready.hold(stream_.get());
  made->begin.record(stream_.get());
  body();
  made->end.record(stream_.get());
  calls_.push_back(std::move(made));
  ++statistics_.calls;
  statistics_.bytes += sent;
  return last_;
}

// Every process sends each piece to its owner, who adds them in the same tree, and so to the same bits, as
// processes without a GPU do.
void NcclCollectives::sum_in_tree(const Tensor& x, const Tensor& workspace) {
  const int64_t piece = div_exact(x.numel(), size());
  const auto count = narrow<size_t>(piece);
  std::vector<Tensor> parts;
  int64_t used = 0;
  for (int r = 0; r < size(); ++r) {
    const bool own = r == rank();
    parts.push_back(own ? x.slice(r * piece, (r + 1) * piece) : workspace.slice(used, used + piece));
    used += own ? 0 : piece;
  }
  DR_NCCL_CHECK(nccl_.group_start());
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    DR_NCCL_CHECK(nccl_.send(x.data<float>() + r * piece, count, ncclFloat32, r, comm_, raw()));
    DR_NCCL_CHECK(nccl_.recv(parts[static_cast<size_t>(r)].pointer, count, ncclFloat32, r, comm_, raw()));
  }
  DR_NCCL_CHECK(nccl_.group_end());
  for_each_pair(size(), [&](int64_t to, int64_t from) {
    ops::add(stream_.get(), parts[static_cast<size_t>(from)], parts[static_cast<size_t>(to)]);
  });
  if (rank() != 0) ops::copy(stream_.get(), parts[0], parts[static_cast<size_t>(rank())]);
}

Collectives::Ticket NcclCollectives::reduce_scatter(Stream stream, const Tensor& x, const Tensor& workspace) {
  check(stream, x);
  DR_CHECK(x.dtype == DType::f32 && x.shape.rank() == 1);
  const int64_t piece = div_exact(x.numel(), size());
  if (deterministic_) check(stream, workspace);
  return call(stream, piece * size_of(x.dtype) * (size() - 1), [&] {
    if (deterministic_) return sum_in_tree(x, workspace);
    float* data = x.data<float>();
    DR_NCCL_CHECK(nccl_.reduce_scatter(data, data + rank() * piece, narrow<size_t>(piece), ncclFloat32,
                                       ncclSum, comm_, raw()));
  });
}

Collectives::Ticket NcclCollectives::all_gather(Stream stream, const Tensor& x) {
  check(stream, x);
  const int64_t piece = div_exact(x.numel(), size()) * size_of(x.dtype);
  return call(stream, piece * (size() - 1), [&] {
    DR_NCCL_CHECK(nccl_.all_gather(bytes_of(x) + rank() * piece, bytes_of(x), narrow<size_t>(piece), ncclInt8,
                                   comm_, raw()));
  });
}

// For small tensors: everybody gets everything and adds it in the order of ranks.
Collectives::Ticket NcclCollectives::all_reduce(Stream stream, const Tensor& x) {
  check(stream, x);
  DR_CHECK(x.dtype == DType::f32 || x.dtype == DType::f64);
  if (const int64_t needed = round_up(x.bytes() * size(), 256); needed > gathered_.bytes()) {
    if (gathered_.defined()) {
      synchronize(stream_.get(), "all_reduce");
      device_free(Device::cuda, gathered_.pointer, gathered_.bytes());
    }
    gathered_ = {};
    gathered_ = allocate(needed);
  }
  return call(stream, x.bytes() * (size() - 1), [&] {
    DR_NCCL_CHECK(
        nccl_.all_gather(x.pointer, gathered_.pointer, narrow<size_t>(x.bytes()), ncclInt8, comm_, raw()));
    const Tensor parts = {gathered_.pointer, {size(), x.numel()}, x.dtype, Device::cuda};
    cuda::sum_rows(stream_.get(), parts, x);
  });
}

Collectives::Ticket NcclCollectives::broadcast(Stream stream, const Tensor& x, int root) {
  check(stream, x);
  DR_CHECK(root >= 0 && root < size());
  return call(stream, rank() == root ? x.bytes() : 0, [&] {
    DR_NCCL_CHECK(
        nccl_.broadcast(x.pointer, x.pointer, narrow<size_t>(x.bytes()), ncclInt8, root, comm_, raw()));
  });
}

void NcclCollectives::barrier() {
  call(stream_.get(), 0, [&] {
    constexpr size_t kBytes = sizeof(float);
    DR_NCCL_CHECK(nccl_.all_gather(bytes_of(token_) + rank() * int64_t{kBytes}, token_.pointer, kBytes,
                                   ncclInt8, comm_, raw()));
  });
  synchronize(stream_.get(), "barrier");
}

void NcclCollectives::wait(Stream stream, Ticket ticket) {
  DR_CHECK(ticket <= last_);
  for (const std::unique_ptr<Call>& each : calls_) {
    if (each->ticket != ticket) continue;
    if (!each->waiting && !each->end.passed()) {
      each->waiting = std::make_unique<cuda::Event>(true);
      each->waiting->record(stream);
    }
    each->end.hold(stream);
  }
}

void NcclCollectives::synchronize(Stream stream, const char* what) {
  check_health();
  Backoff backoff({what, timeout_, nullptr, true});
  while (!cuda::finished(stream)) {
    check_health();
    backoff.rest();
  }
  count_finished();
}

void NcclCollectives::check_health() const {
  ncclResult_t state = ncclSuccess;
  DR_NCCL_CHECK(nccl_.comm_get_async_error(comm_, &state));
  if (state != ncclSuccess && state != ncclInProgress)
    throw SystemError("NCCL: {} in a call that was under way: another process died, or the network failed",
                      nccl_.get_error_string(state));
}

void NcclCollectives::count_finished() {
  while (!calls_.empty() && calls_.front()->end.passed()) {
    const Call& over = *calls_.front();
    statistics_.busy_seconds += over.end.seconds_since(over.begin);
    // The stream that waits may have come there later than the call's end: then it did not stand.
    if (over.waiting && over.waiting->passed())
      statistics_.exposed_seconds += std::max(0.0, over.end.seconds_since(*over.waiting));
    calls_.pop_front();
  }
}

}  // namespace

std::unique_ptr<Collectives> make_nccl_collectives(World& world, const CollectivesOptions& options) {
  ncclUniqueId id = {};
  if (world.is_rank_0()) DR_NCCL_CHECK(nccl::library().get_unique_id(&id));
  const std::string bytes = world.broadcast(std::string(id.internal, sizeof(id.internal)));
  DR_CHECK(bytes.size() == sizeof(id.internal));
  std::memcpy(id.internal, bytes.data(), bytes.size());
  return std::make_unique<NcclCollectives>(world.rank(), world.size(), id, options);
}

}  // namespace depthroute
