// What the files of depthroute-bench-ops share: the device and sizes of this run, operands, registration.
#pragma once

#include <functional>
#include <string>

#include "kernels/ops/ops.h"
#include "tests/bench/bench_machine.h"

namespace depthroute::bench {

struct Run {
  Target target;
  Machine machine;
  bool tiny = false;                          // small shapes
  double e = 4;                               // bytes of an activation
  int64_t rows, hidden, intermediate, vocab;  // N, D, F, V of ops.h
  int64_t head_rows;                          // rows of one product of the output head
  ops::AttentionShape attention;
};
extern Run run;

inline Stream stream() { return run.target.stream; }
inline OwnedTensor act(Shape shape, double scale = 1.0) {
  return make_tensor(run.target, shape, scale, run.target.act);
}
inline OwnedTensor f32(Shape shape, double scale = 1.0) { return make_tensor(run.target, shape, scale); }
inline OwnedTensor f64(int64_t count = 1) {  // zeros
  OwnedTensor memory = f32({2 * count}, 0.0);
  memory.view = Tensor{memory.view.pointer, {count}, DType::f64, run.target.device};
  return memory;
}
inline OwnedTensor indices(int64_t n, int64_t below) { return make_indices(run.target, n, below); }
inline OwnedTensor workspace(int64_t floats) { return f32({floats > 0 ? floats : 1}); }
/// The product of sizes, in floating point.
inline double times(std::initializer_list<int64_t> factors) {
  double product = 1;
  for (const int64_t factor : factors) product *= static_cast<double>(factor);
  return product;
}

enum class Unit { flops, bytes };
/// Registers a benchmark. `make` allocates one copy of the operands and returns the call on them; `amount` is
/// what one call computes or moves.
using Call = std::function<void()>;
void add(const std::string& name, Unit unit, double amount, const std::function<Call()>& make);

void add_embedding();
void add_norms();
void add_attention();
void add_cross_entropy(int64_t vocab);
void add_routing(int64_t hidden);

}  // namespace depthroute::bench
