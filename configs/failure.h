// What an exception ends a program with: the one place where exceptions become exit statuses and lines.
#pragma once

#include <string>

namespace depthroute {

struct Failure {
  int status = 0;
  std::string text;
};

/// Of the exception being handled; call it in a catch block. 2 for InputError, 3 for Interrupted, 1 for
/// anything else.
Failure current_failure();

/// "<program>: error: <text>" on standard error, always one line; without "error:" where the program was only
/// interrupted. Never throws, whatever has become of standard error.
void report(const std::string& program, const Failure& failure);

}  // namespace depthroute
