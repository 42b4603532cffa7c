// Settings that libraries read from the environment when they are loaded.
#pragma once

namespace depthroute::cpu {

/// Starts the program again, once, if other settings would serve it better and the user has not chosen:
/// - OMP_WAIT_POLICY=passive: idle threads sleep. By default they spin, and beside another busy process take
/// the time
///   of the thread they wait for;
/// - OPENBLAS_CORETYPE where OpenBLAS runs AVX2 kernels on a processor with AVX-512.
/// Signals that ask a program to stop wait while it starts again. Returns if there is nothing to mend or
/// starting again is impossible.
void restart_with_better_settings(char** argv);

}  // namespace depthroute::cpu
