#include "kernels/gemm_choices.h"

#include <fmt/format.h>

namespace depthroute {

std::string to_string(const GemmProduct& p) {
  return fmt::format("c [{}, {}] {} {} {} [{}, {}]{} b{} (row strides {}, {}, {})", p.m, p.n,
                     to_string(p.result), p.accumulate ? "+=" : "=", to_string(p.operands), p.m, p.k,
                     p.transpose_a ? "^T" : "", p.transpose_b ? "^T" : "", p.a_stride, p.b_stride,
                     p.c_stride);
}

std::string summarize(const GemmChoices& choices) {
  double chosen = 0, first = 0;
  for (const auto& [product, choice] : choices) {
    chosen += choice.microseconds;
    first += choice.first_microseconds < 0 ? choice.microseconds : choice.first_microseconds;
  }
  const double gain = chosen > 0 ? 100.0 * (first / chosen - 1.0) : 0.0;
  return fmt::format("{} products, {:.1f} % faster than the library's first candidates", choices.size(),
                     gain);
}

std::vector<std::string> report(const GemmChoices& choices) {
  std::vector<std::string> lines;
  for (const auto& [product, choice] : choices)
    lines.push_back(fmt::format("{}: candidate {} of {}, {:.1f} us, {:.1f} TFLOP/s ({:.1f} us for the first)",
                                to_string(product), choice.rank + 1, choice.candidates, choice.microseconds,
                                1e-6 * product.flops() / choice.microseconds, choice.first_microseconds));
  return lines;
}

}  // namespace depthroute
