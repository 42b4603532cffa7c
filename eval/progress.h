// A line about how far the evaluation is and how long it will take, on standard error: rewritten in place on
// a terminal, a plain line every half minute in a log.
#pragma once

#include <chrono>

namespace depthroute {

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
