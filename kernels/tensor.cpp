#include "kernels/tensor.h"

namespace depthroute {

const char* to_string(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
  }
  return "?";
}

Tensor Tensor::reshape(Shape other) const {
  DR_CHECK(contiguous() && other.numel() == numel());
  Tensor result = *this;
  result.shape = other;
  result.row_stride_or_0 = 0;
  return result;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  DR_CHECK(contiguous() && shape.rank() >= 1 && 0 <= begin && begin <= end && end <= shape[0]);
  const int64_t row = shape[0] == 0 ? 0 : numel() / shape[0];
  Tensor result = *this;
  result.pointer = static_cast<std::byte*>(pointer) + begin * row * size_of(dtype);
  switch (shape.rank()) {
    case 1:
      result.shape = {end - begin};
      break;
    case 2:
      result.shape = {end - begin, shape[1]};
      break;
    case 3:
      result.shape = {end - begin, shape[1], shape[2]};
      break;
    default:
      result.shape = {end - begin, shape[1], shape[2], shape[3]};
      break;
  }
  result.row_stride_or_0 = 0;
  return result;
}

Tensor Tensor::columns(int64_t begin, int64_t end) const {
  DR_CHECK(shape.rank() == 2 && 0 <= begin && begin < end && end <= shape[1]);
  Tensor result = *this;
  result.pointer = static_cast<std::byte*>(pointer) + begin * size_of(dtype);
  result.shape = {shape[0], end - begin};
  result.row_stride_or_0 = row_stride();
  return result;
}

}  // namespace depthroute
