// Asking a run to stop: SIGTERM, SIGUSR1 (what job schedulers send before the time limit) and SIGINT set a
// flag that the loop reads between steps. A second SIGINT ends the process at once.
#pragma once

namespace depthroute {

void install_stop_signals();
/// 0, or the signal that asked.
int stop_requested();

}  // namespace depthroute
