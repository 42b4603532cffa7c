#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t reduction_workspace(Device device, int64_t columns) {
  return op_table(device).reduction_workspace(device, columns);
}

void add_partial_sums(Stream stream, int64_t tokens, std::span<const PartialSums> sums) {
  const ProfileScope profile("add_partial_sums");
  constexpr const char* kOp = "add_partial_sums";
  for (const PartialSums& sum : sums) {
    require(kOp, "sum", stream, sum.sum, {sum.sum.numel()});
    DR_CHECK_MSG(sum.first >= 0 && sum.first + sum.sum.numel() <= sum.columns,
                 "add_partial_sums: more columns than were summed");
    require_workspace(kOp, stream, sum.partials, reduction_workspace(stream.device, sum.columns));
  }
  if (tokens == 0 || sums.empty()) return;
  op_table(stream.device).add_partial_sums(stream, tokens, sums);
}

}  // namespace depthroute::ops
