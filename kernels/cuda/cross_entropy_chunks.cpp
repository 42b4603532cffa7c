// Output head and cross-entropy in chunks of rows. The logits of one chunk live in the workspace; their gradient
// overwrites them, and two GEMMs of the chunk's size then give the gradients of hidden and head.
//
// Logits are float32, but with bf16 activations and a gradient they are bf16, as that gradient has to be: 2 bytes a
// value are moved and kept instead of 6. ops.h states what this does to the loss.
#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/cross_entropy_plan.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

/// A matrix [rows, vocab] with padded rows: the padding is not part of any product.
Tensor view(void* memory, int64_t rows, int64_t vocab, int64_t stride, DType dtype) {
  return {memory, {rows, vocab}, dtype, Device::cuda, stride};
}

}  // namespace

int64_t cross_entropy_workspace(Device, DType act, int64_t tokens, int64_t vocab_size) {
  return cross_entropy_plan(act, tokens, vocab_size).floats;
}

void cross_entropy(Stream stream, const Tensor& hidden, const Tensor& head, const Tensor& targets,
                   float grad_scale, const Tensor& nll, const Tensor& dhidden, const Tensor& dhead,
                   const Tensor& workspace) {
  const int64_t n = hidden.rows(), vocab = head.rows();
  const CrossEntropyPlan plan = cross_entropy_plan(hidden.dtype, n, vocab);
  const bool gradient = dhidden.defined();
  const DType type = gradient ? hidden.dtype : DType::f32;
  const int64_t chunk = equal_chunk(n, gradient ? plan.rows_in_place : plan.rows);
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const Tensor h = hidden.slice(first, first + rows);
    const Tensor logits = view(workspace.pointer, rows, vocab, plan.stride, type);
    gemm(stream, Transpose::no, Transpose::yes, h, head, 0.0f, logits);
    cross_entropy_rows(handle(stream), {rows, vocab, plan.stride}, type, logits.pointer, h, head,
                       targets.data<int32_t>() + first, grad_scale, nll.data<float>() + first, gradient);
    if (!gradient) continue;
    const Tensor& dlogits = logits;
    gemm(stream, Transpose::no, Transpose::no, dlogits, head, 0.0f, dhidden.slice(first, first + rows));
    if (dhead.defined()) gemm(stream, Transpose::yes, Transpose::no, dlogits, h, 1.0f, dhead);
  }
}

int64_t cross_entropy_compare_workspace(Device, DType, int64_t tokens, int64_t vocab_size) {
  return compare_floats(tokens, vocab_size);
}

void cross_entropy_compare(Stream stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& hit, const Tensor& workspace) {
  const int64_t n = clean.rows(), compared = hidden.rows() / n, vocab = head.rows(),
                stride = logits_stride(vocab);
  const int64_t largest = compare_rows(n, vocab);
  float* const logits = workspace.data<float>();
  float* const other = logits + largest * stride;
  const int64_t chunk = equal_chunk(n, largest);
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    // All products use the same plan, so equal hidden states give the same logits, bit for bit.
    gemm(stream, Transpose::no, Transpose::yes, clean.slice(first, first + rows), head, 0.0f,
         view(logits, rows, vocab, stride, DType::f32));
    for (int64_t k = 0; k < compared; ++k) {
      const int64_t row = k * n + first;
      gemm(stream, Transpose::no, Transpose::yes, hidden.slice(row, row + rows), head, 0.0f,
           view(other, rows, vocab, stride, DType::f32));
      cross_entropy_compare_rows(handle(stream), {rows, vocab, stride}, logits, other,
                                 targets.data<int32_t>() + first, nll.data<float>() + row,
                                 kl.data<float>() + row, flipped.data<int32_t>() + row,
                                 hit.data<int32_t>() + row);
    }
  }
}

}  // namespace depthroute::cuda
