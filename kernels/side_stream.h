// Work beside the main stream's: on a GPU a second stream, ordered by events; on the CPU the same stream.
//
//   side.run(main, [&](Stream stream) { ... });  // after all that main has been given so far, beside what follows
//   ...                                          // main
//   side.join(main);                             // main: after all that run() has put on the second stream
//
// Between run() and join() neither may write what the other reads or writes, scratch included. Joins precede the next
// run(). A recording of main (replay.h) includes what lies between; construct before it begins.
#pragma once

#include <functional>
#include <memory>

#include "kernels/device.h"

namespace depthroute {

class SideStream {
 public:
  explicit SideStream(Device device);
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  void run(Stream main, const std::function<void(Stream)>& body);
  /// Does nothing if nothing has run since the last join.
  void join(Stream main);

 private:
  struct Cuda;
  std::unique_ptr<Cuda> cuda_;  // nullptr on the CPU, and where work is only counted
  bool forked_ = false;
};

}  // namespace depthroute
