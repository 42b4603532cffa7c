// Output head and cross-entropy in chunks of rows. The logits of one chunk live in the workspace; their gradient
// overwrites them, and two GEMMs of the chunk's size then give the gradients of hidden and head.
//
// Logits are float32, but with bf16 activations and a gradient they are bf16, as that gradient has to be: 2 bytes a
// value are moved and kept instead of 6. ops.h states what this does to the loss.
#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

// Rows at once. Each chunk reads and writes all of dhead, 8 V D bytes, for a product of 2 rows V D
// operations, i.e. rows / 4 operations per byte. An H100 needs about 300 (989 TFLOP/s over 3.35 TB/s), so the
// product hides that traffic from 1200 rows on, and above 4096 there is nothing to gain. 4096 rows of 151936
// classes are 1.2 GiB in bf16. A multiple of 128, a tile of the GEMM.
constexpr int64_t kBudget = int64_t{2} << 30;  // bytes
constexpr int64_t kRowUnit = 128;
constexpr int64_t kMaxRows = 4096;

int64_t largest_chunk(int64_t tokens, int64_t bytes_per_row) {
  const int64_t affordable = kBudget / bytes_per_row / kRowUnit * kRowUnit;
  return std::min(round_up(tokens, kRowUnit), std::clamp(affordable, kRowUnit, kMaxRows));
}

/// Chunks of equal size, so that the GEMMs are the same for all but the last.
int64_t equal_chunk(int64_t tokens, int64_t largest) {
  return round_up(div_ceil(tokens, div_ceil(tokens, largest)), kRowUnit);
}

/// Values from one row of logits to the next, padded so that 16-byte accesses work for any number of classes.
int64_t row_stride(int64_t vocab) { return round_up(vocab, 8); }

struct Plan {
  int64_t stride, floats;
  int64_t rows;           // of float32 logits
  int64_t rows_in_place;  // of logits that their gradient overwrites
};
Plan make_plan(DType act, int64_t tokens, int64_t vocab) {
  const int64_t stride = row_stride(vocab);
  const int64_t rows_in_place = largest_chunk(tokens, stride * size_of(act));
  // One workspace for both: half as many rows in float32 as in bf16, but no less than a tile.
  const int64_t rows =
      std::max(rows_in_place * size_of(act) / size_of(DType::f32) / kRowUnit * kRowUnit, kRowUnit);
  const int64_t floats = std::max(rows_in_place * size_of(act) / size_of(DType::f32), rows) * stride;
  return {stride, floats, rows, rows_in_place};
}

/// A matrix [rows, vocab] with padded rows: the padding is not part of any product.
Tensor view(void* memory, int64_t rows, int64_t vocab, int64_t stride, DType dtype) {
  return {memory, {rows, vocab}, dtype, Device::cuda, stride};
}

}  // namespace

int64_t cross_entropy_workspace(Device, DType act, int64_t tokens, int64_t vocab_size) {
  return make_plan(act, tokens, vocab_size).floats;
}

void cross_entropy(Stream stream, const Tensor& hidden, const Tensor& head, const Tensor& targets,
                   float grad_scale, const Tensor& nll, const Tensor& dhidden, const Tensor& dhead,
                   const Tensor& workspace) {
  const int64_t n = hidden.rows(), vocab = head.rows();
  const Plan plan = make_plan(hidden.dtype, n, vocab);
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
  const int64_t stride = row_stride(vocab_size);
  return 2 * largest_chunk(tokens, 2 * stride * 4) * stride;
}

void cross_entropy_compare(Stream stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& hit, const Tensor& workspace) {
  const int64_t n = clean.rows(), compared = hidden.rows() / n, vocab = head.rows(),
                stride = row_stride(vocab);
  const int64_t largest = largest_chunk(n, 2 * stride * 4);
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
