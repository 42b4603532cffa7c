#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void embedding_forward(Stream stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const ProfileScope profile("embedding_forward");
  constexpr const char* kOp = "embedding_forward";
  const int64_t n = out.rows();
  const int64_t d = out.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  const DType act = activation_type(kOp, "table", stream, table);
  require(kOp, "table", stream, table, {table.rows(), d}, act);
  require(kOp, "out", stream, out, {n, d}, act);
  op_table(stream.device).embedding_forward(stream, tokens, table, out);
}

void embedding_backward(Stream stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const ProfileScope profile("embedding_backward");
  constexpr const char* kOp = "embedding_backward";
  const int64_t n = dout.rows();
  const int64_t d = dout.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  require(kOp, "dout", stream, dout, {n, d}, activation_type(kOp, "dout", stream, dout));
  require(kOp, "dtable", stream, dtable, {dtable.rows(), d});
  op_table(stream.device).embedding_backward(stream, tokens, dout, dtable);
}

}  // namespace depthroute::ops
