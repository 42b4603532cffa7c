#include "kernels/ops/checks.h"

#include <fmt/format.h>

#include <string>

namespace depthroute::ops {

namespace {

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int axis = 0; axis < shape.rank(); ++axis) text += fmt::format("{}{}", axis ? ", " : "", shape[axis]);
  return text + "]";
}

[[noreturn]] void fail(const char* op, const char* name, Stream stream, const Tensor& tensor,
                       const Shape& shape, DType dtype) {
  const std::string message =
      fmt::format("is {} {} on {}{}{}, must be {} {} on {}", to_string(tensor.shape), to_string(tensor.dtype),
                  to_string(tensor.device), tensor.defined() ? "" : ", undefined",
                  tensor.row_stride_or_0 ? fmt::format(", row stride {}", tensor.row_stride_or_0) : "",
                  to_string(shape), to_string(dtype), to_string(stream.device));
  check_failed(name, op, 0, message.c_str());
}

bool has_type(Stream stream, const Tensor& tensor, DType dtype) {
  return tensor.defined() && tensor.dtype == dtype && tensor.device == stream.device;
}

}  // namespace

DType activation_type(const char* op, const char* name, Stream stream, const Tensor& tensor) {
  const bool known =
      tensor.dtype == DType::f32 || (tensor.dtype == DType::bf16 && stream.device == Device::cuda);
  if (!tensor.defined() || !known) fail(op, name, stream, tensor, tensor.shape, DType::f32);
  return tensor.dtype;
}

void require(const char* op, const char* name, Stream stream, const Tensor& tensor, const Shape& shape,
             DType dtype) {
  const bool dense = tensor.row_stride_or_0 == 0 || (tensor.shape.rank() == 2 && tensor.contiguous());
  if (!has_type(stream, tensor, dtype) || !(tensor.shape == shape) || !dense)
    fail(op, name, stream, tensor, shape, dtype);
}

void require_strided(const char* op, const char* name, Stream stream, const Tensor& tensor, int64_t rows,
                     int64_t cols, DType dtype) {
  const Shape shape{rows, cols};
  if (!has_type(stream, tensor, dtype) || !(tensor.shape == shape) || tensor.row_stride() < cols)
    fail(op, name, stream, tensor, shape, dtype);
}

void require_workspace(const char* op, Stream stream, const Tensor& tensor, int64_t floats) {
  if (floats == 0) return;
  if (!has_type(stream, tensor, DType::f32) || tensor.row_stride_or_0 != 0 || tensor.numel() < floats)
    fail(op, "workspace", stream, tensor, Shape{floats}, DType::f32);
}

}  // namespace depthroute::ops
