#include "kernels/cpu/reduce.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

int64_t reduction_workspace(Device, int64_t columns) { return reduction_floats(columns); }

void add_partial_sums(Stream, int64_t tokens, std::span<const PartialSums> sums) {
  for (const PartialSums& s : sums)
    add_partials(tokens, s.columns, s.first, s.first + s.sum.numel(), s.partials.data<float>(),
                 s.sum.data<float>());
}

}  // namespace depthroute::cpu
