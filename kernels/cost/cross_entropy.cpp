// Costs of the output head and cross-entropy: four kernels per chunk of rows.
#include "kernels/cost/products.h"
#include "kernels/cuda/cross_entropy_plan.h"
#include "kernels/op_table.h"

namespace depthroute::cost {

namespace {

/// A row is read twice, the second time from its end. Whether its first half is still in the L2 cache depends
/// on the rows that blocks work on at the same time.
bool far_apart(int64_t bytes_of_row) {
  constexpr int64_t kRowsAtOnce = 4 * 132, kCache = int64_t{32} << 20;
  return kRowsAtOnce * bytes_of_row > kCache;
}

Tensor logits_of(const Tensor& like, int64_t rows, int64_t vocab, int64_t stride, DType dtype) {
  return {like.pointer, {rows, vocab}, dtype, Device::cuda, stride};
}

/// `like`: any tensor of the call, for an address of logits that nothing else has.
void add_logits(const Tensor& hidden, const Tensor& head, const Tensor& logits) {
  add_product("head, logits", Transpose::no, hidden, head, 0, logits);
}

}  // namespace

int64_t cross_entropy_workspace(Device, DType act, int64_t tokens, int64_t vocab_size) {
  return cuda::cross_entropy_plan(act, tokens, vocab_size).floats;
}

void cross_entropy(Stream, const Tensor& hidden, const Tensor& head, const Tensor& targets, float,
                   const Tensor& nll, const Tensor& dhidden, const Tensor& dhead, const Tensor&) {
  const int64_t n = hidden.rows(), vocab = head.rows();
  const cuda::CrossEntropyPlan plan = cuda::cross_entropy_plan(hidden.dtype, n, vocab);
  const bool gradient = dhidden.defined();
  const DType type = gradient ? hidden.dtype : DType::f32;
  const int64_t chunk = cuda::equal_chunk(n, gradient ? plan.rows_in_place : plan.rows);
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first), row_bytes = plan.stride * size_of(type);
    const Tensor h = hidden.slice(first, first + rows);
    const Tensor logits = logits_of(nll, rows, vocab, plan.stride, type);
    add_logits(h, head, logits);
    Traffic traffic("head, cross-entropy rows");
    traffic.read(targets.slice(first, first + rows)).write(rows * size_of(nll.dtype));
    // Logits in bf16: the target's is computed again, as if no target occurred twice.
    if (type == DType::bf16) traffic.read(h).read(std::min(rows, vocab) * head.cols() * size_of(head.dtype));
    traffic.read_twice(rows * row_bytes, gradient && far_apart(row_bytes));
    if (gradient) traffic.write(rows * row_bytes);
    traffic.add();
    if (!gradient) continue;
    add_product("head, gradient of hidden", Transpose::no, logits, head, 0,
                dhidden.slice(first, first + rows));
    if (dhead.defined()) add_product("head, gradient of the head", Transpose::yes, logits, h, 1, dhead);
  }
}

int64_t cross_entropy_compare_workspace(Device, DType, int64_t tokens, int64_t vocab_size) {
  return cuda::compare_floats(tokens, vocab_size);
}

void cross_entropy_compare(Stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor&, const Tensor&,
                           const Tensor&, const Tensor&) {
  const int64_t n = clean.rows(), compared = hidden.rows() / n, vocab = head.rows();
  const int64_t stride = cuda::logits_stride(vocab), row_bytes = stride * size_of(DType::f32);
  const int64_t chunk = cuda::equal_chunk(n, cuda::compare_rows(n, vocab));
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const Tensor logits = logits_of(nll, rows, vocab, stride, DType::f32);
    add_logits(clean.slice(first, first + rows), head, logits);
    for (int64_t k = 0; k < compared; ++k) {
      add_logits(hidden.slice(k * n + first, k * n + first + rows), head, logits);
      constexpr int64_t kResults = 4 * 4;  // nll, kl, flipped and hit
      Traffic("head, compared rows")
          .read(targets.slice(first, first + rows))
          .read_twice(2 * rows * row_bytes, far_apart(2 * row_bytes))
          .write(rows * kResults)
          .add();
    }
  }
}

}  // namespace depthroute::cost
