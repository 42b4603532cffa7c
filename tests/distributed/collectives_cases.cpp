// Cases about the collectives: every one against plain loops over what all ranks hold, which each rank can
// make by itself.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/host_view.h"
#include "kernels/ops/ops.h"
#include "tests/distributed/collectives_worker.h"

namespace depthroute::worker {

namespace {

/// Memory of the device with known contents.
class Buffer {
 public:
  Buffer(Stream stream, int64_t numel, DType dtype) : stream_(stream) {
    tensor_ = {device_allocate(stream.device, std::max<int64_t>(1, numel) * size_of(dtype)),
               {numel},
               dtype,
               stream.device};
  }
  ~Buffer() {
    device_free(stream_.device, tensor_.pointer,
                std::max<int64_t>(1, tensor_.numel()) * size_of(tensor_.dtype));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const Tensor& tensor() const { return tensor_; }
  template <typename T>
  void set(const std::vector<T>& values) {
    ops::copy(stream_, raw(const_cast<T*>(values.data()), Device::cpu), tensor_);
  }
  template <typename T>
  std::vector<T> get() const {
    std::vector<T> values(static_cast<size_t>(tensor_.bytes()) / sizeof(T));
    ops::copy(stream_, tensor_, raw(values.data(), Device::cpu));
    synchronize(stream_);
    return values;
  }

 private:
  Tensor raw(void* pointer, Device device) const { return {pointer, tensor_.shape, tensor_.dtype, device}; }
  Stream stream_;
  Tensor tensor_;
};

/// A value that sums inexactly, of element i on `rank` in a trial.
double value(int trial, int rank, int64_t i) {
  const uint64_t bits = XXH64_hash_t(XXH64(&i, sizeof(i), static_cast<uint64_t>(trial * 1000 + rank)));
  const int exponent = static_cast<int>(bits % 7) - 3;
  return std::ldexp(static_cast<double>(static_cast<int64_t>(bits >> 12)) / (int64_t{1} << 51) - 1, exponent);
}

template <typename T>
std::vector<T> values(int trial, int rank, int64_t numel) {
  std::vector<T> result(static_cast<size_t>(numel));
  for (int64_t i = 0; i < numel; ++i)
    result[static_cast<size_t>(i)] = static_cast<T>(1000 * value(trial, rank, i));
  return result;
}

/// Level by level, what has no neighbour carried up: the definition in collectives.h, element by element.
float tree_sum(std::vector<float> parts) {
  while (parts.size() > 1) {
    std::vector<float> level;
    for (size_t i = 0; i < parts.size(); i += 2)
      level.push_back(i + 1 < parts.size() ? parts[i] + parts[i + 1] : parts[i]);
    parts = level;
  }
  return parts[0];
}

void require(bool holds, const char* what, int64_t numel) {
  if (!holds) throw SystemError("wrong result of {} of {} elements", what, numel);
}

struct Bench {
  World& world;
  Stream stream;
  std::unique_ptr<Collectives> collectives;
  bool exact;  // reduce_scatter promises the tree

  Bench(World& given, const Options& options)
      : world(given),
        stream(make_stream(options.device)),
        collectives(given.make_collectives(options.device, options.collectives)),
        exact(options.device == Device::cpu || options.collectives.deterministic ||
              options.collectives.backend != CollectiveBackend::nccl) {
    if (collectives->size() != world.size() || collectives->rank() != world.rank())
      throw SystemError("wrong: rank or size of collectives");
  }
  int size() const { return world.size(); }
};

void check_reduce_scatter(Bench& bench, int trial, int64_t piece) {
  const int64_t numel = piece * bench.size(), begin = piece * bench.world.rank();
  Buffer x(bench.stream, numel, DType::f32),
      workspace(bench.stream, bench.collectives->reduce_scatter_workspace(numel), DType::f32);
  x.set(values<float>(trial, bench.world.rank(), numel));
  bench.collectives->wait(bench.stream,
                          bench.collectives->reduce_scatter(bench.stream, x.tensor(), workspace.tensor()));
  const std::vector<float> sums = x.get<float>();
  std::vector<std::vector<float>> all;
  for (int r = 0; r < bench.size(); ++r) all.push_back(values<float>(trial, r, numel));
  for (int64_t i = begin; i < begin + piece; ++i) {
    std::vector<float> parts;
    double sum = 0, magnitude = 0;
    for (const std::vector<float>& each : all) {
      parts.push_back(each[static_cast<size_t>(i)]);
      sum += parts.back();
      magnitude += std::fabs(parts.back());
    }
    const float got = sums[static_cast<size_t>(i)];
    require(bench.exact ? got == tree_sum(parts) : std::fabs(got - sum) <= 1e-6 * magnitude, "reduce_scatter",
            numel);
  }
}

template <typename T>
void check_all_gather(Bench& bench, int trial, int64_t piece, DType dtype) {
  const int64_t numel = piece * bench.size(), begin = piece * bench.world.rank();
  Buffer x(bench.stream, numel, dtype);
  std::vector<T> mine(static_cast<size_t>(numel), T{77}), all;
  for (int r = 0; r < bench.size(); ++r) {
    const std::vector<T> theirs = values<T>(trial, r, piece);
    all.insert(all.end(), theirs.begin(), theirs.end());
  }
  std::copy_n(all.begin() + begin, piece, mine.begin() + begin);
  x.set(mine);
  bench.collectives->wait(bench.stream, bench.collectives->all_gather(bench.stream, x.tensor()));
  require(x.get<T>() == all, "all_gather", numel);
}

template <typename T>
void check_all_reduce(Bench& bench, int trial, int64_t numel, DType dtype) {
  Buffer x(bench.stream, numel, dtype);
  x.set(values<T>(trial, bench.world.rank(), numel));
  bench.collectives->wait(bench.stream, bench.collectives->all_reduce(bench.stream, x.tensor()));
  std::vector<T> sum = values<T>(trial, 0, numel);
  for (int r = 1; r < bench.size(); ++r) {
    const std::vector<T> theirs = values<T>(trial, r, numel);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += theirs[i];
  }
  require(x.get<T>() == sum, "all_reduce", numel);
}

template <typename T>
void check_broadcast(Bench& bench, int trial, int64_t numel, DType dtype) {
  for (int root = 0; root < bench.size(); ++root) {
    Buffer x(bench.stream, numel, dtype);
    x.set(values<T>(trial, bench.world.rank(), numel));
    bench.collectives->wait(bench.stream, bench.collectives->broadcast(bench.stream, x.tensor(), root));
    require(x.get<T>() == values<T>(trial, root, numel), "broadcast", numel);
  }
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void check_collectives(World& world, const Options& options) {
  Bench bench(world, options);
  int trial = 0;
  for (const int64_t piece : {1, 7, 4099, 100'003}) {
    ++trial;
    check_reduce_scatter(bench, trial, piece);
    check_all_gather<float>(bench, trial, piece, DType::f32);
    check_all_gather<double>(bench, trial, piece, DType::f64);
    check_all_gather<int32_t>(bench, trial, piece, DType::i32);
    check_all_gather<uint16_t>(bench, trial, piece, DType::bf16);  // bytes are bytes
    check_all_reduce<float>(bench, trial, piece, DType::f32);
    check_all_reduce<double>(bench, trial, piece, DType::f64);
    check_broadcast<float>(bench, trial, piece, DType::f32);
    check_broadcast<double>(bench, trial, piece, DType::f64);
    check_broadcast<int32_t>(bench, trial, piece, DType::i32);
    check_broadcast<uint16_t>(bench, trial, piece, DType::bf16);
    bench.collectives->barrier();
    bench.collectives->synchronize(bench.stream);
  }
  const Collectives::Statistics statistics = bench.collectives->statistics();
  if (world.size() == 1) return;
  require(statistics.calls >= 4 * 7 && statistics.bytes > 0, "statistics", statistics.calls);
  require(statistics.busy_seconds > 0 && statistics.exposed_seconds >= 0, "statistics' times", 0);
  if (world.is_rank_0()) fmt::print("{}\n", bench.collectives->describe());
}

/// Many calls before the first is waited for, of all kinds, on tensors of their own; then only the last is.
void check_many_in_flight(World& world, const Options& options) {
  Bench bench(world, options);
  constexpr int kRounds = 40;
  std::vector<std::unique_ptr<Buffer>> summed, gathered, scratch;
  Collectives::Ticket last = 0;
  const auto piece_of = [](int round) { return int64_t{1} + round * 97; };
  for (int round = 0; round < kRounds; ++round) {
    const int64_t numel = piece_of(round) * bench.size();
    summed.push_back(std::make_unique<Buffer>(bench.stream, numel, DType::f32));
    gathered.push_back(std::make_unique<Buffer>(bench.stream, numel, DType::i32));
    scratch.push_back(std::make_unique<Buffer>(
        bench.stream, bench.collectives->reduce_scatter_workspace(numel), DType::f32));
    summed.back()->set(
        std::vector<float>(static_cast<size_t>(numel), static_cast<float>(world.rank() + round)));
    gathered.back()->set(std::vector<int32_t>(static_cast<size_t>(numel), world.rank() * 1000 + round));
    const Collectives::Ticket first =
        bench.collectives->reduce_scatter(bench.stream, summed.back()->tensor(), scratch.back()->tensor());
    const Collectives::Ticket second = bench.collectives->all_gather(bench.stream, gathered.back()->tensor());
    require(bench.size() == 1 || (first > last && second > first), "tickets", numel);
    last = second;
  }
  bench.collectives->wait(bench.stream, last);
  const int n = bench.size();
  for (int round = 0; round < kRounds; ++round) {
    const int64_t piece = piece_of(round);
    const std::vector<float> sums = summed[static_cast<size_t>(round)]->get<float>();
    for (int64_t i = piece * world.rank(); i < piece * (world.rank() + 1); ++i)
      require(sums[static_cast<size_t>(i)] == static_cast<float>(n * round + n * (n - 1) / 2),
              "reduce_scatter", piece);
    const std::vector<int32_t> all = gathered[static_cast<size_t>(round)]->get<int32_t>();
    for (int64_t i = 0; i < piece * n; ++i)
      require(all[static_cast<size_t>(i)] == i / piece * 1000 + round, "all_gather", piece);
  }
}

/// The sum of 8 parts, of which each process adds its own in the first levels of the tree: the same bits for
/// 1, 2, 4 and 8 processes.
void print_tree(World& world, const Options& options) {
  Bench bench(world, options);
  constexpr int kShards = 8;
  constexpr int64_t kNumel = 8 * 12'345;
  const int own = kShards / world.size();
  std::vector<std::vector<float>> shards;
  for (int s = 0; s < own; ++s) shards.push_back(values<float>(3, world.rank() * own + s, kNumel));
  std::vector<float> mine(static_cast<size_t>(kNumel));
  for (size_t i = 0; i < mine.size(); ++i) {
    std::vector<float> parts;
    for (const std::vector<float>& shard : shards) parts.push_back(shard[i]);
    mine[i] = tree_sum(parts);
  }
  Buffer x(bench.stream, kNumel, DType::f32),
      workspace(bench.stream, bench.collectives->reduce_scatter_workspace(kNumel), DType::f32);
  x.set(mine);
  bench.collectives->reduce_scatter(bench.stream, x.tensor(), workspace.tensor());
  bench.collectives->wait(bench.stream, bench.collectives->all_gather(bench.stream, x.tensor()));
  const std::vector<float> sum = x.get<float>();
  const std::string hash = fmt::format("{:016x}", XXH64(sum.data(), sum.size() * sizeof(float), 0));
  world.require_equal("the sum", hash);
  if (world.is_rank_0()) fmt::print("hash {}\n", hash);
}

void measure_speed(World& world, const Options& options) {
  Bench bench(world, options);
  const int64_t numel = int64_t{8} << 20;  // a bucket of 32 MiB
  Buffer x(bench.stream, numel, DType::f32),
      workspace(bench.stream, bench.collectives->reduce_scatter_workspace(numel), DType::f32);
  x.set(std::vector<float>(static_cast<size_t>(numel), 0));
  double best[2] = {1e9, 1e9};
  for (int round = 0; round < 7; ++round) {
    bench.collectives->barrier();
    const double start = seconds_now();
    bench.collectives->wait(bench.stream,
                            bench.collectives->reduce_scatter(bench.stream, x.tensor(), workspace.tensor()));
    bench.collectives->barrier();
    const double middle = seconds_now();
    bench.collectives->wait(bench.stream, bench.collectives->all_gather(bench.stream, x.tensor()));
    bench.collectives->barrier();
    best[0] = std::min(best[0], middle - start);
    best[1] = std::min(best[1], seconds_now() - middle);
  }
  if (world.is_rank_0())
    fmt::print("32 MiB: reduce_scatter {:.1f} ms {:.2f} GB/s, all_gather {:.1f} ms {:.2f} GB/s\n",
               best[0] * 1e3, numel * 4e-9 / best[0], best[1] * 1e3, numel * 4e-9 / best[1]);
}

}  // namespace depthroute::worker
