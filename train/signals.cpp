#include "train/signals.h"

#include <csignal>

namespace depthroute {

namespace {
volatile std::sig_atomic_t requested = 0;
extern "C" void remember_signal(int signal) { requested = signal; }
}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = remember_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  action.sa_flags |= SA_RESETHAND;  // the default action comes back: a second one ends the process
  sigaction(SIGINT, &action, nullptr);
}

int stop_requested() { return requested; }

}  // namespace depthroute
