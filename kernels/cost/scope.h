// Counts work instead of doing it. While a Scope lives, ops called by its thread reach the functions of
// kernels/cost instead of a backend's: they read no tensor, and add to the scope's log what the CUDA backend's
// kernels would do. So the code that is counted is the code that trains, and tensors need addresses
// (Arena::reserve_addresses) but no memory; neither a GPU nor a build with CUDA is needed.
#pragma once

#include "kernels/cost/kernel_cost.h"

namespace depthroute::cost {

struct Options {
  /// Whether cuDNN has a plan for bf16 attention; if not, the backend's own kernels run.
  bool library_attention = true;
};

class Scope {
 public:
  /// `log` must outlive the scope. Scopes do not nest.
  explicit Scope(Log& log, const Options& options = {});
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

/// Whether this thread's work is counted, not done: nothing may be waited for or recorded.
bool counting();

/// For kernels/side_stream.cpp: whether kernels are given to the second stream; a wait of the first for it.
void set_beside(bool beside);
void wait_for_beside();

/// For kernels/cost: the scope's options; adding a kernel to its log.
const Options& options();
void add(const KernelCost& cost);

}  // namespace depthroute::cost
