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

// What was ignored when the program started is only known before libraries start: UCX, which Open MPI 5 of
// Debian 13 links, puts a handler of its own in SIGHUP's place, ignored or not. The loader calls what
// .preinit_array lists before any library's constructors.
std::array<bool, kStopSignals.size()> ignored_at_start;

void look_before_libraries_start(int, char**, char**) {
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    struct sigaction present;
    ignored_at_start[i] = sigaction(kStopSignals[i], nullptr, &present) == 0 && present.sa_handler == SIG_IGN;
  }
}

using AtStart = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] const AtStart look_first = look_before_libraries_start;

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
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | flags;
  sigaction(signal, &action, nullptr);
}

/// Those that were ignored are ignored again: a restarted program (kernels/cpu/restart.h) must find them so.
void handle_stop_signals(void (*handler)(int), int flags_of_sigint) {
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    handle(kStopSignals[i], ignored_at_start[i] ? SIG_IGN : handler,
           kStopSignals[i] == SIGINT ? flags_of_sigint : 0);
}

}  // namespace

void end_on_stop_signals() { handle_stop_signals(end_at_once, 0); }

void install_stop_signals() {
  // SA_RESETHAND: the default action comes back, so that a second one ends the process.
  handle_stop_signals(remember_signal, SA_RESETHAND);
  handle(SIGPIPE, remember_signal, 0);
}

int stop_requested() { return requested; }

void throw_if_stopped() {
  if (requested != 0)
    throw Interrupted(std::string("stopped by SIG") + sigabbrev_np(requested) + kNothingWritten);
}

}  // namespace depthroute
