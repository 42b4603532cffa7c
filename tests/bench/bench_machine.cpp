#include "tests/bench/bench_machine.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "kernels/ops.h"

namespace depthroute::bench {

namespace {

template <typename T, typename Value>
OwnedTensor make(Shape shape, const Value& value) {
  const int64_t bytes = shape.numel() * static_cast<int64_t>(sizeof(T));
  T* data = static_cast<T*>(device_allocate(Device::cpu, bytes));
  std::shared_ptr<void> memory(data, [bytes](void* block) { device_free(Device::cpu, block, bytes); });
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < shape.numel(); ++i) {
    // Bits of a multiplicative hash: uniform in [0, 1), different from element to element.
    const uint64_t hash = (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15ull;
    data[i] = static_cast<T>(value(static_cast<double>(hash >> 11) * 0x1p-53));
  }
  return {std::move(memory), host_tensor(data, shape)};
}

// The fastest of the calls that fit into two seconds: what the machine does when nobody else is using it.
double best_seconds(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  run();
  double best = 1e30;
  for (const auto end = Clock::now() + std::chrono::seconds(2); Clock::now() < end;) {
    const auto start = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

OwnedTensor make_tensor(Shape shape, double scale) {
  return make<float>(shape, [scale](double u) { return scale * (2 * u - 1); });
}

OwnedTensor make_indices(int64_t n, int64_t below) {
  return make<int32_t>({n}, [below](double u) { return u * static_cast<double>(below); });
}

Machine measure_machine() {
  constexpr int64_t kSide = 2048;
  const OwnedTensor a = make_tensor({kSide, kSide}), b = make_tensor({kSide, kSide}),
                    c = make_tensor({kSide, kSide});
  const double product_seconds =
      best_seconds([&] { ops::gemm(Stream{}, ops::Op::none, ops::Op::transpose, a, b, 0.0f, c); });

  constexpr int64_t kElements = int64_t{1} << 25;  // 128 MiB each
  const OwnedTensor x = make_tensor({kElements}), y = make_tensor({kElements}), z = make_tensor({kElements});
  float* to = x.view.data<float>();
  const float* left = y.view.data<float>();
  const float* right = z.view.data<float>();
  const double triad_seconds = best_seconds([=] {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < kElements; ++i) to[i] = left[i] + 3.0f * right[i];
  });
  return {2.0 * kSide * kSide * kSide / product_seconds * 1e-9, 12.0 * kElements / triad_seconds * 1e-9};
}

}  // namespace depthroute::bench
