// The memory that OpenBLAS packs matrices into.
#pragma once

namespace depthroute::cpu {

/// Makes OpenBLAS allocate its buffers for `at_once` concurrent products now: later there may be no room, and
/// if the system refuses it a buffer, OpenBLAS retries for ever. Throws SystemError if there is no room now.
///
/// OpenBLAS takes its first buffers when it is loaded, before main(). A check that runs before that ends the
/// program with one line and status 1 if there is no room for them.
void reserve_blas_memory(int at_once);

}  // namespace depthroute::cpu
