#include "kernels/collectives/mpi_collectives.h"

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "configs/base/check.h"
#include "kernels/collectives/host_exchange.h"
#include "kernels/collectives/worker.h"
#include "kernels/cuda/device.h"
#include "kernels/ops/ops.h"

namespace depthroute {

namespace {

std::byte* bytes_of(const Tensor& x) { return static_cast<std::byte*>(x.pointer); }

/// One thread that makes the calls in order; the caller computes meanwhile.
class MpiCollectives : public Collectives {
 public:
  MpiCollectives(int rank, int size, MPI_Comm comm, Device device, const CollectivesOptions& options)
      : Collectives(rank, size),
        timeout_(options.timeout),
        exchange_(comm, options.timeout, give_up_),
        device_(device) {}

  void barrier() override {
    queue_->wait(queue_->submit([this] { exchange_.barrier(); }));
  }
  void wait(Stream, Ticket ticket) override { queue_->wait(ticket); }
  void leave() override { stop(); }
  void synchronize(Stream stream) override {
    queue_->rethrow_error();
    depthroute::synchronize(stream);
  }
  Statistics statistics() const override {
    Statistics result = queue_ ? queue_->statistics() : Statistics{};
    result.bytes = exchange_.bytes_sent();
    return result;
  }

 protected:
  /// The calls use members of the class at hand: it starts the thread when it has them, and stops it before
  /// they go.
  void start(std::function<void()> prepare) { queue_ = std::make_unique<Worker>(prepare, give_up_); }
  void stop() { queue_.reset(); }

  void check(Stream stream, const Tensor& x) const {
    DR_CHECK(stream.device == device_ && x.device == device_ && x.defined() && x.contiguous());
  }
  void check_pieces(Stream stream, const Tensor& x) const {
    check(stream, x);
    DR_CHECK(x.numel() % size() == 0);
  }
  static void check_summed(const Tensor& x) { DR_CHECK(x.dtype == DType::f32 || x.dtype == DType::f64); }
  int64_t piece_bytes(const Tensor& x) const { return div_exact(x.numel(), size()) * size_of(x.dtype); }

  std::atomic<bool> give_up_ = false;
  double timeout_;
  HostExchange exchange_;
  std::unique_ptr<Worker> queue_;

 private:
  Device device_;
};

class HostCollectives : public MpiCollectives {
 public:
  HostCollectives(int rank, int size, MPI_Comm comm, const CollectivesOptions& options)
      : MpiCollectives(rank, size, comm, Device::cpu, options) {
    start([] {});
  }
  ~HostCollectives() override { stop(); }

  std::string describe() const override { return fmt::format("{} processes, MPI", size()); }

  int64_t reduce_scatter_workspace(int64_t numel) const override { return exchange_.workspace(numel); }
  Ticket reduce_scatter(Stream stream, const Tensor& x, const Tensor& workspace) override {
    check_pieces(stream, x);
    check(stream, workspace);
    DR_CHECK(workspace.numel() >= exchange_.workspace(x.numel()));
    float* data = x.data<float>();
    float* scratch = workspace.data<float>();
    return queue_->submit([=, this] { exchange_.reduce_scatter(data, x.numel(), scratch); });
  }
  Ticket all_gather(Stream stream, const Tensor& x) override {
    check_pieces(stream, x);
    return queue_->submit([=, this] { exchange_.all_gather(bytes_of(x), x.bytes()); });
  }
  Ticket all_reduce(Stream stream, const Tensor& x) override {
    check(stream, x);
    check_summed(x);
    return queue_->submit([=, this] { exchange_.all_reduce(x.pointer, x.numel(), x.dtype); });
  }
  Ticket broadcast(Stream stream, const Tensor& x, int root) override {
    check(stream, x);
    DR_CHECK(root >= 0 && root < size());
    return queue_->submit([=, this] { exchange_.broadcast(bytes_of(x), x.bytes(), root); });
  }
};

/// Tensors on cuda, by way of page-locked host memory: for processes that share a GPU, which NCCL refuses.
class StagedCollectives : public MpiCollectives {
 public:
  StagedCollectives(int rank, int size, MPI_Comm comm, const CollectivesOptions& options)
      : MpiCollectives(rank, size, comm, Device::cuda, options) {
    start(cuda::enter_thread);
  }
  ~StagedCollectives() override { stop(); }

  std::string describe() const override {
    return fmt::format("{} processes, MPI by way of host memory", size());
  }

  int64_t reduce_scatter_workspace(int64_t) const override { return 0; }
  Ticket reduce_scatter(Stream stream, const Tensor& x, const Tensor&) override {
    check_pieces(stream, x);
    DR_CHECK(x.dtype == DType::f32);
    return submit(stream, [=, this] {
      float* host =
          reinterpret_cast<float*>(take(x.bytes() + exchange_.workspace(x.numel()) * size_of(x.dtype)));
      const int64_t own = rank() * piece_bytes(x);
      fetch(x, 0, x.bytes());
      exchange_.reduce_scatter(host, x.numel(), host + x.numel());
      put(x, own, piece_bytes(x));
    });
  }
  Ticket all_gather(Stream stream, const Tensor& x) override {
    check_pieces(stream, x);
    return submit(stream, [=, this] {
      take(x.bytes());
      fetch(x, rank() * piece_bytes(x), piece_bytes(x));
      exchange_.all_gather(host_.get(), x.bytes());
      put(x, 0, x.bytes());
    });
  }
  Ticket all_reduce(Stream stream, const Tensor& x) override {
    check(stream, x);
    check_summed(x);
    return submit(stream, [=, this] {
      take(x.bytes());
      fetch(x, 0, x.bytes());
      exchange_.all_reduce(host_.get(), x.numel(), x.dtype);
      put(x, 0, x.bytes());
    });
  }
  Ticket broadcast(Stream stream, const Tensor& x, int root) override {
    check(stream, x);
    DR_CHECK(root >= 0 && root < size());
    return submit(stream, [=, this] {
      take(x.bytes());
      if (rank() == root) fetch(x, 0, x.bytes());
      exchange_.broadcast(host_.get(), x.bytes(), root);
      if (rank() != root) put(x, 0, x.bytes());
    });
  }

 private:
  Ticket submit(Stream stream, std::function<void()> call) {
    const auto ready = std::make_shared<cuda::Event>();
    ready->record(stream);
    return queue_->submit([this, ready, call = std::move(call)] {
      poll([&] { return ready->passed(); });
      call();
    });
  }
  /// Waits for the device, which may lag far behind, for a limited time.
  void poll(const std::function<bool()>& done) const {
    const BackoffOptions options = {"a GPU's work", timeout_, &give_up_, true};
    Backoff backoff(options);
    while (!done()) backoff.rest();
  }
  std::byte* take(int64_t bytes) {
    if (bytes > host_bytes_) {
      host_.reset();
      host_ = cuda::allocate_pinned(bytes);
      host_bytes_ = bytes;
    }
    return host_.get();
  }
  /// Bytes [begin, begin + count) of x, between the device and the same place in the host block.
  void fetch(const Tensor& x, int64_t begin, int64_t count) { move(x, begin, count, true); }
  void put(const Tensor& x, int64_t begin, int64_t count) { move(x, begin, count, false); }
  void move(const Tensor& x, int64_t begin, int64_t count, bool to_host);

  cuda::PinnedBlock host_;
  int64_t host_bytes_ = 0;
  cuda::SeparateStream copies_;
};

void StagedCollectives::move(const Tensor& x, int64_t begin, int64_t count, bool to_host) {
  const Tensor device = {bytes_of(x) + begin, {count / size_of(x.dtype)}, x.dtype, Device::cuda};
  const Tensor host = {host_.get() + begin, device.shape, x.dtype, Device::cpu};
  ops::copy(copies_.get(), to_host ? device : host, to_host ? host : device);
  poll([&] { return cuda::finished(copies_.get()); });
}

}  // namespace

std::unique_ptr<Collectives> make_mpi_collectives(MPI_Comm comm, Device device,
                                                  const CollectivesOptions& options) {
  int rank = 0, size = 0;
  DR_MPI_CHECK(MPI_Comm_rank(comm, &rank));
  DR_MPI_CHECK(MPI_Comm_size(comm, &size));
  if (device == Device::cpu) return std::make_unique<HostCollectives>(rank, size, comm, options);
  return std::make_unique<StagedCollectives>(rank, size, comm, options);
}

}  // namespace depthroute
