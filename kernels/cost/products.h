// The cost of one matrix product.
#pragma once

#include "kernels/cost/traffic.h"
#include "kernels/op_types.h"

namespace depthroute::cost {

/// c = op(a) op(b) + beta c, as ops::gemm.
inline void add_product(std::string_view name, Transpose op_a, const Tensor& a, const Tensor& b, float beta,
                        const Tensor& c) {
  const int64_t k = op_a == Transpose::yes ? a.rows() : a.cols();
  if (c.numel() == 0) return;
  Traffic traffic(name);
  traffic.read(a).read(b);
  if (beta != 0) traffic.read(c);
  traffic.write(c)
      .flops(a.dtype == DType::bf16 ? Rate::product_bf16 : Rate::product_f32,
             2 * static_cast<double>(c.numel()) * static_cast<double>(k))
      .library()
      .add();
}

}  // namespace depthroute::cost
