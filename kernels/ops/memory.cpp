#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void zero(Stream stream, const Tensor& x) {
  const ProfileScope profile("zero");
  require("zero", "x", stream, x, x.shape, x.dtype);
  op_table(stream.device).zero(stream, x);
}

void fill(Stream stream, const Tensor& x, float value) {
  const ProfileScope profile("fill");
  require("fill", "x", stream, x, x.shape);
  op_table(stream.device).fill(stream, x, value);
}

void copy(Stream stream, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("copy");
  // One end may be host memory, whatever the stream's device.
  require("copy", "from", {from.device, nullptr}, from, to.shape, to.dtype);
  require("copy", "to", {to.device, nullptr}, to, to.shape, to.dtype);
  DR_CHECK_MSG(stream.device == Device::cuda || (from.device == Device::cpu && to.device == Device::cpu),
               "copy: a tensor on cuda and a stream of the cpu");
  if (from.pointer == to.pointer) return;
  op_table(stream.device).copy(stream, from, to);
}

void cast(Stream stream, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("cast");
  require("cast", "from", stream, from, to.shape, activation_type("cast", "from", stream, from));
  require("cast", "to", stream, to, to.shape, activation_type("cast", "to", stream, to));
  if (from.dtype == to.dtype) return copy(stream, from, to);
  op_table(stream.device).cast(stream, from, to);
}

void add(Stream stream, const Tensor& x, const Tensor& y) {
  const ProfileScope profile("add");
  const DType act = activation_type("add", "y", stream, y);
  require("add", "x", stream, x, y.shape, act);
  require("add", "y", stream, y, y.shape, act);
  op_table(stream.device).add(stream, x, y);
}

void sum(Stream stream, const Tensor& x, const Tensor& total) {
  const ProfileScope profile("sum");
  require("sum", "x", stream, x, x.shape);
  require("sum", "total", stream, total, Shape{1}, DType::f64);
  op_table(stream.device).sum(stream, x, total);
}

}  // namespace depthroute::ops
