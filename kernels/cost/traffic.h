// Adds up the bytes of one kernel. A tensor that is read twice counts once, as in a cache that holds it.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/cost/kernel_cost.h"
#include "kernels/cost/scope.h"
#include "kernels/tensor.h"

namespace depthroute::cost {

class Traffic {
 public:
  explicit Traffic(std::string_view name) { cost_.name = name; }

  /// All of x, unless it is undefined or has been read.
  Traffic& read(const Tensor& x) {
    if (!x.defined() || std::find(seen_.begin(), seen_.end(), x.pointer) != seen_.end()) return *this;
    seen_.push_back(x.pointer);
    return read(x.bytes());
  }
  Traffic& read(int64_t bytes) {
    cost_.read += bytes;
    return *this;
  }
  /// Twice: from memory again if that is `far`, from a cache otherwise.
  Traffic& read_twice(int64_t bytes, bool far) {
    cost_.read += bytes;
    if (far) cost_.read_again += bytes;
    return *this;
  }
  Traffic& write(const Tensor& x) { return write(x.defined() ? x.bytes() : 0); }
  Traffic& write(int64_t bytes) {
    cost_.written += bytes;
    return *this;
  }
  /// Reads x and writes it.
  Traffic& update(const Tensor& x) { return read(x).write(x); }
  Traffic& flops(Rate rate, double count) {
    cost_.rate = rate;
    cost_.flops = count;
    return *this;
  }
  Traffic& instructions(double count) {
    cost_.instructions = count;
    return *this;
  }
  Traffic& library(int64_t launches = 1) {
    cost_.library = true;
    cost_.launches = launches;
    return *this;
  }
  void add() const { cost::add(cost_); }

 private:
  KernelCost cost_;
  std::vector<const void*> seen_;
};

}  // namespace depthroute::cost
