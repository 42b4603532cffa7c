// Maps exceptions to exit statuses and lines. The programs (cli.cpp) and their ranks (run_in_world()) end
// through this mapping only; small tools catch InputError themselves.
#pragma once

#include <string>

namespace depthroute {

struct Failure {
  int status = 0;
  std::string text;
};

/// Returns the failure of the exception being handled; call it in a catch block. Status 2 for InputError, 3
/// for Interrupted, 1 for anything else.
Failure current_failure();

/// Prints "<program>: error: <text>" on standard error, always one line; without "error:" if the program was
/// only interrupted. Never throws, even if standard error is gone.
void report(const std::string& program, const Failure& failure);

}  // namespace depthroute
