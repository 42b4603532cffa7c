#include "tests/bench/bench_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "kernels/gemm_choices.h"
#include "kernels/ops/ops.h"

#ifdef DEPTHROUTE_BENCH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace depthroute::bench {

namespace {

using Clock = std::chrono::steady_clock;

OwnedTensor allocate(const Target& target, Shape shape, DType dtype) {
  const int64_t bytes = shape.numel() * size_of(dtype);
  const Device device = target.device;
  std::shared_ptr<void> memory(device_allocate(device, bytes),
                               [device, bytes](void* block) { device_free(device, block, bytes); });
  Tensor view{memory.get(), shape, dtype, device};
  return {std::move(memory), view};
}

template <typename T, typename Value>
OwnedTensor make(const Target& target, Shape shape, DType dtype, const Value& value) {
  const OwnedTensor host = allocate(Target{}, shape, dtype);
  T* data = host.view.data<T>();
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < shape.numel(); ++i) {
    // A multiplicative hash: uniform in [0, 1), different for each element.
    const uint64_t hash = (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15ull;
    data[i] = static_cast<T>(value(static_cast<double>(hash >> 11) * 0x1p-53));
  }
  if (!target.cuda()) return host;
  const OwnedTensor copy = allocate(target, shape, dtype);
  ops::copy(target.stream, host, copy);
  synchronize(target.stream);
  return copy;
}

double seconds_of(Stream stream, const std::function<void()>& call, int64_t calls) {
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i) call();
  synchronize(stream);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The fastest of the calls that fit into two seconds (`tiny`: a tenth): the machine's speed when nothing else
// uses it.
double best_seconds(bool tiny, const std::function<void()>& run) {
  run();
  double best = 1e30;
  for (const auto end = Clock::now() + std::chrono::milliseconds(tiny ? 200 : 2000); Clock::now() < end;)
    best = std::min(best, seconds_of(Stream{}, run, 1));
  return best;
}

double cube(int64_t side) { return 2.0 * static_cast<double>(side) * static_cast<double>(side * side); }

Machine measure_cpu(const Target& target, bool tiny) {
  const int64_t side = tiny ? 256 : 2048;
  const OwnedTensor a = make_tensor(target, {side, side}), b = make_tensor(target, {side, side}),
                    c = make_tensor(target, {side, side});
  const double product_seconds = best_seconds(
      tiny, [&] { ops::gemm(Stream{}, ops::Transpose::no, ops::Transpose::yes, a, b, 0.0f, c); });

  const int64_t elements = int64_t{1} << (tiny ? 18 : 25);  // 128 MiB each
  const OwnedTensor x = make_tensor(target, {elements}), y = make_tensor(target, {elements}),
                    z = make_tensor(target, {elements});
  float* to = x.view.data<float>();
  const float* left = y.view.data<float>();
  const float* right = z.view.data<float>();
  const double triad_seconds = best_seconds(tiny, [=] {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < elements; ++i) to[i] = left[i] + 3.0f * right[i];
  });
  return {cube(side) / product_seconds * 1e-9, 12.0 * static_cast<double>(elements) / triad_seconds * 1e-9,
          fmt::format("sgemm {}^3", side), "triad"};
}

Machine measure_cuda(const Target& target, bool tiny) {
  const int64_t side = tiny ? 64 : 8192;
  const Shape square{side, side};
  double product_seconds = 0;
  {
    const OwnedTensor a = make_tensor(target, square, 1.0, target.act),
                      b = make_tensor(target, square, 1.0, target.act),
                      c = make_tensor(target, square, 1.0, target.act);
    const auto product = [&] {
      ops::gemm(target.stream, ops::Transpose::no, ops::Transpose::yes, a, b, 0.0f, c);
    };
    if (has_gemm_choices(target.device)) tune_gemm(target.stream, product);
    product_seconds = median_seconds(target.stream, product);
  }
  const int64_t elements = int64_t{1} << (tiny ? 18 : 28);
  const OwnedTensor x = allocate(target, {elements}, DType::f32),
                    y = allocate(target, {elements}, DType::f32);
  const double copy_seconds = median_seconds(target.stream, [&] { ops::copy(target.stream, x, y); });
  return {cube(side) / product_seconds * 1e-9, 8.0 * static_cast<double>(elements) / copy_seconds * 1e-9,
          fmt::format("{} GEMM {}^3", to_string(target.act), side), "copy"};
}

}  // namespace

Target make_target(const std::string& device, const std::string& precision) {
  const Device chosen = resolve_device(parse_or_fail<DeviceChoice>("--device", device));
  return {chosen, working_type(chosen, parse_or_fail<Precision>("--precision", precision)),
          make_stream(chosen)};
}

OwnedTensor make_tensor(const Target& target, Shape shape, double scale, DType dtype) {
  OwnedTensor floats =
      make<float>(target, shape, DType::f32, [scale](double u) { return scale * (2 * u - 1); });
  if (dtype == DType::f32) return floats;
  OwnedTensor rounded = allocate(target, shape, dtype);
  ops::cast(target.stream, floats, rounded);
  synchronize(target.stream);  // before `floats` goes
  return rounded;
}

OwnedTensor make_indices(const Target& target, int64_t n, int64_t below) {
  return make<int32_t>(target, {n}, DType::i32, [below](double u) { return u * static_cast<double>(below); });
}

double median_seconds(Stream stream, const std::function<void()>& call) {
  for (int i = 0; i < 3; ++i) call();
  synchronize(stream);
  int64_t calls = 1;
  while (calls < 4096 && seconds_of(stream, call, calls) < 0.01) calls *= 2;
  std::array<double, 9> samples{};
  for (double& sample : samples) sample = seconds_of(stream, call, calls) / static_cast<double>(calls);
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

Machine measure_machine(const Target& target, bool tiny) {
  return target.cuda() ? measure_cuda(target, tiny) : measure_cpu(target, tiny);
}

int64_t device_bytes_in_use([[maybe_unused]] const Target& target) {
#ifdef DEPTHROUTE_BENCH_CUDA
  size_t free = 0, total = 0;
  if (target.cuda() && cudaMemGetInfo(&free, &total) == cudaSuccess)
    return static_cast<int64_t>(total - free);
#endif
  return 0;
}

}  // namespace depthroute::bench
