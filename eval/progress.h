// What is said on the terminal meanwhile. Above all a line about how far the evaluation is and how long it
// will take, on standard error: rewritten in place on a terminal, a plain line every half minute in a log.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace depthroute {

/// Writes text for a person and sees to it that it is shown. Nobody may be there to read it (a closed pipe, a
/// full disk): that ends no evaluation.
void say(std::FILE* to, const std::string& text);

class Progress {
 public:
  Progress();
  ~Progress();  // ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void report(double done, double total);

 private:
  using Clock = std::chrono::steady_clock;
  void print(double share, double elapsed);
  const Clock::time_point start_ = Clock::now();
  double last_print_ = 0;
  const bool terminal_;
  bool printed_ = false;
};

}  // namespace depthroute
