// Second of the two phases of a read (routing_merge.cu), which routing_forward() calls.
#pragma once

#include "kernels/op_types.h"
#include "kernels/ops/ops.h"

namespace depthroute::cuda {

/// routing_forward() of a site whose `partial` is defined.
void routing_merge(Stream stream, const RoutingSite& site, const Tensor& add, const Tensor& output);

}  // namespace depthroute::cuda
