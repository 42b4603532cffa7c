// Which of a library's algorithms computes which matrix product. Where a device's library offers several, they
// differ in speed by up to a fifth and in the order of their sums, hence in bits: so they are timed once, and
// the choice is kept (train/product_choices.h says where).
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute {

/// All that an algorithm may depend on: c [m, n] = op(a) [m, k] op(b) [k, n], or += if `accumulate`.
struct GemmProduct {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  DType operands = DType::f32, result = DType::f32;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;           // of rows, in elements
  int64_t a_alignment = 0, b_alignment = 0, c_alignment = 0;  // in bytes, a power of two, at most 16

  auto operator<=>(const GemmProduct&) const = default;
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
};
/// "c [64, 96] f32 += bf16 [64, 32] b^T (row strides 32, 32, 96)"
std::string to_string(const GemmProduct& product);

struct GemmChoice {
  std::string algorithm;    // the library's own bytes, as lower-case hexadecimal digits
  int64_t rank = 0;         // among the candidates, in the library's order: 0 is what it would take itself
  int64_t candidates = 1;   // how many were timed
  double microseconds = 0;  // of this algorithm
  double first_microseconds = 0;  // of the library's first; less than 0 if that failed

  bool operator==(const GemmChoice&) const = default;
};
/// A product that is not in here gets the library's first candidate.
using GemmChoices = std::map<GemmProduct, GemmChoice>;

/// Where choices hold: timings and algorithms are those of one kind of device and one version of a library.
struct GemmContext {
  std::string device;   // "NVIDIA H100 80GB HBM3, sm_90, 132 SMs"
  std::string library;  // "cuBLASLt 13.1.0"
  int64_t workspace_bytes = 0;

  bool operator==(const GemmContext&) const = default;
};

/// Whether there is something to choose: not on the CPU.
bool has_gemm_choices(Device device);
GemmContext gemm_context(Stream stream);

/// Runs `body`. Each product that it puts on the stream for the first time is computed by up to eight
/// algorithms, several times each, with the real operands: so what accumulates holds garbage afterwards.
/// Returns what was chosen, and keeps it in force on the stream's device, in place of any choice before.
GemmChoices tune_gemm(Stream stream, const std::function<void()>& body);
/// Puts `choices` in force on the stream's device, in place of any before. DataError, naming the product, for an
/// algorithm that the library does not accept for it.
void use_gemm_choices(Stream stream, const GemmChoices& choices);

/// "15 products, 8.3 % faster than the library's first candidates": of one run of each product.
std::string summarize(const GemmChoices& choices);
/// One line for each product: the product, which candidate of how many, microseconds, TFLOP/s.
std::vector<std::string> report(const GemmChoices& choices);

}  // namespace depthroute
