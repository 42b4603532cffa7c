// A tensor is a view: pointer, shape, dtype, device. It owns nothing; memory belongs to an Arena (arena.h) or
// to whoever made the pointer. Views are cheap to copy and are passed by value or const reference.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "configs/base/check.h"
#include "configs/base/sizes.h"

namespace depthroute {

enum class Device : uint8_t { cpu, cuda };
enum class DType : uint8_t { f32, f64, bf16, i32 };

const char* to_string(Device device);
const char* to_string(DType dtype);

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 8;
    case DType::bf16:
      return 2;
    default:
      return 4;
  }
}

/// The DType that Tensor::data<T>() requires. bf16 has none: there is no host arithmetic for it.
template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};

/// Up to four extents, row-major, in elements.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) {
    DR_CHECK(extents.size() <= extents_.size());
    for (int64_t extent : extents) extents_[rank_++] = extent;
  }
  int rank() const { return rank_; }
  int64_t operator[](int axis) const {
    DR_CHECK(axis >= 0 && axis < rank_);
    return extents_[axis];
  }
  /// A scalar (rank 0) has one element. Throws ConfigError if the number overflows.
  int64_t numel() const {
    int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product = checked_product(product, extents_[axis]);
    return product;
  }
  std::vector<int64_t> extents() const { return {extents_.begin(), extents_.begin() + rank_}; }
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, 4> extents_{};
  int rank_ = 0;
};

struct Tensor {
  void* pointer = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  /// Elements from one row to the next of a rank-2 tensor; 0 means contiguous. Only ops that say so take
  /// strided tensors (e.g. the v columns of a fused qkv buffer).
  int64_t row_stride_or_0 = 0;

  bool defined() const { return pointer != nullptr; }
  int64_t numel() const { return shape.numel(); }
  int64_t bytes() const { return checked_product(numel(), size_of(dtype)); }
  bool contiguous() const { return row_stride_or_0 == 0 || row_stride_or_0 == shape[1]; }
  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return shape[1]; }
  int64_t row_stride() const { return row_stride_or_0 ? row_stride_or_0 : shape[1]; }

  /// Returns the typed pointer; aborts unless the dtype matches. The host must not dereference it if the
  /// tensor is on another device.
  template <typename T>
  T* data() const {
    DR_CHECK(dtype == DTypeOf<T>::value);
    return static_cast<T*>(pointer);
  }

  /// The same elements under another shape of equal size.
  Tensor reshape(Shape other) const;
  /// Rows [begin, end) of the first axis.
  Tensor slice(int64_t begin, int64_t end) const;
  /// Columns [begin, end) of a rank-2 tensor: a strided view.
  Tensor columns(int64_t begin, int64_t end) const;
};

/// A view of host memory that the caller owns.
template <typename T>
Tensor host_tensor(T* data, Shape shape) {
  return Tensor{const_cast<std::remove_const_t<T>*>(data), shape, DTypeOf<std::remove_const_t<T>>::value,
                Device::cpu};
}

}  // namespace depthroute
