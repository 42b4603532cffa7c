// What an evaluation tells on standard error meanwhile: how far it is and how long it will take, four times a
// second on a terminal, every half minute in a log.
#pragma once

#include "configs/progress_line.h"

namespace depthroute {

class Progress {
 public:
  Progress() : line_(stderr) {}
  /// `done` of `total`, in any unit; done > 0.
  void report(double done, double total);

 private:
  ProgressLine line_;
};

}  // namespace depthroute
