// Settings that libraries read from the environment when they are loaded.
#pragma once

namespace depthroute::cpu {

/// Restarts the program, once, if other settings would serve it better and the user has not chosen any:
/// - OMP_WAIT_POLICY=passive: idle threads sleep. By default they spin, and on a busy machine they take time
///   from the very thread they wait for.
/// - OPENBLAS_CORETYPE, if OpenBLAS runs AVX2 kernels on a processor with AVX-512.
/// Signals that ask a program to stop stay pending during the restart. Returns if there is nothing to improve
/// or the restart is impossible.
void restart_with_better_settings(char** argv);

}  // namespace depthroute::cpu
