// What a backend provides: one function per op of kernels/ops/ops.h, with the op's own signature. This list
// is the only one; the backends' declarations, their tables and the dispatch follow from it, and so do those of
// kernels/cost, which counts what the CUDA backend would do. A missing function is a link error that names it.
//
// A backend's function may rely on the checks of kernels/ops/<op>.cpp: shapes, dtypes and devices are right.
#pragma once

#include "kernels/ops/ops.h"

#define DR_FOR_EACH_OP(X)            \
  X(zero)                            \
  X(fill)                            \
  X(copy)                            \
  X(cast)                            \
  X(add)                             \
  X(sum)                             \
  X(select_rows)                     \
  X(column_sums_workspace)           \
  X(column_sums)                     \
  X(gemm)                            \
  X(embedding_forward)               \
  X(embedding_backward)              \
  X(reduction_workspace)             \
  X(add_partial_sums)                \
  X(rms_norm_forward)                \
  X(rms_norm_backward)               \
  X(rope_table)                      \
  X(qk_norm_rope_forward)            \
  X(qk_norm_rope_backward)           \
  X(attention_workspace)             \
  X(attention_notes)                 \
  X(attention_forward)               \
  X(attention_backward)              \
  X(swiglu_forward)                  \
  X(swiglu_backward)                 \
  X(cross_entropy_workspace)         \
  X(cross_entropy)                   \
  X(cross_entropy_compare_workspace) \
  X(cross_entropy_compare)           \
  X(routing_read_finished)           \
  X(routing_forward)                 \
  X(routing_shares)                  \
  X(routing_backward_workspace)      \
  X(routing_backward)                \
  X(routing_backward_shared)         \
  X(sum_of_squares_workspace)        \
  X(sum_of_squares)                  \
  X(combine_shard_totals)            \
  X(adamw)

namespace depthroute {

#define DR_TABLE_MEMBER(op) decltype(ops::op)* op;
#define DR_TABLE_ENTRY(op) .op = op,
#define DR_BACKEND_FUNCTION(op) decltype(ops::op) op;

/// A backend's functions, e.g. `swiglu_forward` of type void(Stream, const Tensor&, const Tensor&).
struct OpTable {
  DR_FOR_EACH_OP(DR_TABLE_MEMBER)
};

/// The device's backend, or kernels/cost while this thread's work is counted (cost::Scope). Aborts if this
/// build has none.
const OpTable& op_table(Device device);

/// kernels/cpu/<op>.cpp. Tensors are f32 unless ops.h says otherwise; threads come from OpenMP.
namespace cpu {
DR_FOR_EACH_OP(DR_BACKEND_FUNCTION)
const OpTable* op_table();
}  // namespace cpu

/// kernels/cuda/<op>.cu. Work is put on the stream and not waited for.
namespace cuda {
DR_FOR_EACH_OP(DR_BACKEND_FUNCTION)
/// nullptr if built without CUDA.
const OpTable* op_table();
}  // namespace cuda

/// kernels/cost: adds what the CUDA backend's kernels would do to the log of a cost::Scope.
namespace cost {
DR_FOR_EACH_OP(DR_BACKEND_FUNCTION)
const OpTable* op_table();
}  // namespace cost

}  // namespace depthroute
