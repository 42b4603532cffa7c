#include "train/signals.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>  // sigabbrev_np
#include <string>

#include "configs/base/error.h"

namespace depthroute {

namespace {

constexpr std::array kStopSignals = {SIGTERM, SIGUSR1, SIGHUP, SIGINT};

volatile std::sig_atomic_t requested = 0;

constexpr const char* kNothingWritten =
    " before the first step; nothing was written: run the same command again";

extern "C" void remember_signal(int signal) { requested = signal; }

/// What a signal handler may do: nothing that allocates or locks.
extern "C" void end_at_once(int signal) {
  const char* name = sigabbrev_np(signal);  // looked up in a table
  std::array<char, 256> line;
  size_t size = 0;
  for (const char* piece : {static_cast<const char*>(program_invocation_short_name), ": stopped by SIG",
                            name != nullptr ? name : "?", kNothingWritten, "\n"})
    for (; *piece != '\0' && size < line.size(); ++piece) line[size++] = *piece;
  (void)!write(STDERR_FILENO, line.data(), size);
  _exit(kExitInterrupted);
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction present = {};
  sigaction(signal, nullptr, &present);
  if (signal != SIGPIPE && present.sa_handler == SIG_IGN) return;
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | flags;
  sigaction(signal, &action, nullptr);
}

}  // namespace

void end_on_stop_signals() {
  for (const int signal : kStopSignals) handle(signal, end_at_once, 0);
}

void install_stop_signals() {
  // SA_RESETHAND: the default action comes back, so that a second one ends the process.
  for (const int signal : kStopSignals) handle(signal, remember_signal, signal == SIGINT ? SA_RESETHAND : 0);
  handle(SIGPIPE, remember_signal, 0);
}

int stop_requested() { return requested; }

void throw_if_stopped() {
  if (requested != 0)
    throw Interrupted(std::string("stopped by SIG") + sigabbrev_np(requested) + kNothingWritten);
}

}  // namespace depthroute
