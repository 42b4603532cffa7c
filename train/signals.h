// Asking a run to stop: SIGTERM, SIGUSR1 (what job schedulers send before the time limit), SIGHUP and SIGINT.
// One that was ignored when the program started (nohup, jobs in the background) stays ignored. Once the run
// is under way, a write to a pipe that nobody reads any more (SIGPIPE) asks as well.
#pragma once

namespace depthroute {

/// Call first in main(). Until install_stop_signals(), while nothing has been written, such a signal ends the
/// process at once, with one line and status 3, whatever it waits for.
void end_on_stop_signals();

/// From now on stop signals set a flag, which the loop reads between steps. A second SIGINT ends the process
/// at once.
void install_stop_signals();
/// The signal that asked to stop, or 0.
int stop_requested();
/// Throws Interrupted if one did. For whatever takes long before the first step.
void throw_if_stopped();

}  // namespace depthroute
