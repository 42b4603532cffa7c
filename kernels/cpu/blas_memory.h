// The memory OpenBLAS packs matrices into.
#pragma once

namespace depthroute::cpu {

/// Makes OpenBLAS take now what it needs for `at_once` products that run side by side. Where the system
/// refuses it a buffer, it asks again for ever; later there may be no room. SystemError if there is none now.
///
/// OpenBLAS takes its first buffers when it is loaded, before main(): whether there is room for them is
/// looked at before that, and the program ends with one line and status 1 where there is not.
void reserve_blas_memory(int at_once);

}  // namespace depthroute::cpu
