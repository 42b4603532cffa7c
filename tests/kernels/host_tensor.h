// Tensors for the op tests: values that the test reads and writes on the host, with guard zones around them,
// on whichever device the tests run. DEPTHROUTE_TEST_DEVICE=cuda runs them on a GPU; for programs that
// execute the CUDA kernels on the host (tests/cuda_on_host), cuda is the default.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/host_view.h"
#include "kernels/ops/ops.h"
#include "kernels/tensor.h"

#ifndef DEPTHROUTE_TEST_DEVICE
#define DEPTHROUTE_TEST_DEVICE "cpu"
#endif

namespace depthroute {
namespace test {

/// A bfloat16 on the host: the upper half of a float, rounded to nearest even.
struct Bf16 {
  uint16_t bits = 0;
  Bf16() = default;
  Bf16(float value) {  // implicit: tests write numbers
    uint32_t word;
    std::memcpy(&word, &value, sizeof(word));
    bits = value != value ? 0x7fc0 : static_cast<uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
  operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, sizeof(value));
    return value;
  }
};

}  // namespace test

template <>
struct DTypeOf<test::Bf16> {
  static constexpr DType value = DType::bf16;
};

namespace test {

inline constexpr Stream kCpu{Device::cpu, nullptr};

/// The device the tests run on, and the one stream they use there.
inline Device device() {
  static const Device chosen = [] {
    const char* name = std::getenv("DEPTHROUTE_TEST_DEVICE");
    return resolve_device(
        parse_or_fail<DeviceChoice>("DEPTHROUTE_TEST_DEVICE", name ? name : DEPTHROUTE_TEST_DEVICE));
  }();
  return chosen;
}
inline bool on_cuda() { return device() == Device::cuda; }
inline Stream stream() {
  static const Stream one = make_stream(device());
  return one;
}
/// Returns `width`, rounded up to what the device's 16-byte accesses need.
inline int64_t width(int64_t width) { return on_cuda() ? round_up(width, int64_t{8}) : width; }

/// The values of one tensor. The destructor checks guard zones before and after them: an op that writes
/// outside its output fails the test. Values start as NaN (-99 for integers), so that an output the op forgot
/// to write shows up. On a device with its own memory, the values live where they were last used: tensor()
/// moves them there, and every access from the host moves them back. So a Tensor made from this is valid
/// until the next access from the host.
template <typename T>
class HostTensor {
 public:
  explicit HostTensor(Shape shape, T value = unwritten())
      : shape_(shape), storage_(shape.numel() + 2 * guard_size(), guard()) {
    fill(value);
  }
  HostTensor(const HostTensor& other) : shape_(other.shape_) {
    other.to_host();
    storage_ = other.storage_;
  }
  HostTensor& operator=(const HostTensor& other) {
    if (this == &other) return *this;
    other.to_host();
    release();
    shape_ = other.shape_;
    storage_ = other.storage_;
    return *this;
  }
  ~HostTensor() {
    to_host();
    release();
    const auto same = [](const T& a, const T& b) { return std::memcmp(&a, &b, sizeof(T)) == 0; };
    for (int64_t i = 0; i < guard_size(); ++i) {
      EXPECT_TRUE(same(storage_[i], guard()))
          << "written " << guard_size() - i << " elements before a tensor";
      EXPECT_TRUE(same(storage_[guard_size() + size() + i], guard()))
          << "written " << i << " elements after a tensor";
    }
  }

  static constexpr T unwritten() {
    if constexpr (std::is_integral_v<T>) {
      return T(-99);
    } else {
      return T(std::numeric_limits<float>::quiet_NaN());
    }
  }

  int64_t size() const { return shape_.numel(); }
  T* data() {
    to_host();
    return storage_.data() + guard_size();
  }
  const T* data() const {
    to_host();
    return storage_.data() + guard_size();
  }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(size())}; }
  std::vector<T> values() const { return {data(), data() + size()}; }
  std::vector<double> doubles() const {
    std::vector<double> result;
    for (const T& value : span()) result.push_back(static_cast<double>(value));
    return result;
  }
  Tensor tensor() const {
    if (!on_cuda()) return host_tensor(const_cast<T*>(data()), shape_);
    to_device();
    return {static_cast<T*>(block_) + guard_size(), shape_, DTypeOf<T>::value, device()};
  }
  operator Tensor() const { return tensor(); }
  void fill(T value) { std::fill(data(), data() + size(), value); }
  bool operator==(const HostTensor& other) const {  // bit for bit
    return shape_ == other.shape_ && std::memcmp(data(), other.data(), size() * sizeof(T)) == 0;
  }

 private:
  /// In elements. Odd on the CPU, where no op may rely on alignment; a multiple of 256 bytes on cuda.
  static int64_t guard_size() { return on_cuda() ? 128 : 19; }
  static T guard() { return T(-123456); }
  int64_t bytes() const { return static_cast<int64_t>(storage_.size() * sizeof(T)); }
  Tensor whole(Device where) const {
    void* pointer = where == Device::cpu ? static_cast<void*>(storage_.data()) : block_;
    return {pointer, {static_cast<int64_t>(storage_.size())}, DTypeOf<T>::value, where};
  }
  void to_host() const {
    if (!on_device_) return;
    ops::copy(stream(), whole(device()), whole(Device::cpu));
    synchronize(stream());
    on_device_ = false;
  }
  void to_device() const {
    if (on_device_) return;
    if (!block_) block_ = device_allocate(device(), bytes());
    ops::copy(stream(), whole(Device::cpu), whole(device()));
    synchronize(stream());
    on_device_ = true;
  }
  void release() {
    if (block_) device_free(device(), block_, bytes());
    block_ = nullptr;
    on_device_ = false;
  }

  Shape shape_;
  mutable std::vector<T> storage_;
  mutable void* block_ = nullptr;   // on the device, as large as storage_
  mutable bool on_device_ = false;  // whether the values there are the newer ones
};
/// Read the values of a tensor (f32 or bf16) on the tests' device, and set them (f32).
inline std::vector<float> host_values(const Tensor& tensor) {
  const HostView view({tensor.device, tensor.device == Device::cpu ? nullptr : stream().handle}, tensor);
  const int64_t n = tensor.numel();
  if (tensor.dtype == DType::bf16) {
    const Bf16* values = view.tensor().data<Bf16>();
    return {values, values + n};
  }
  const float* values = view.tensor().data<float>();
  return {values, values + n};
}
inline void set_values(const Tensor& tensor, const std::vector<float>& values) {
  DR_CHECK(static_cast<int64_t>(values.size()) == tensor.numel());
  ops::copy(stream(), host_tensor(values.data(), tensor.shape), tensor);
  synchronize(stream());
}

using F32 = HostTensor<float>;
using F64 = HostTensor<double>;
using I32 = HostTensor<int32_t>;
using BF16 = HostTensor<Bf16>;

}  // namespace test
}  // namespace depthroute
