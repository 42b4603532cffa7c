// Reads files, pipes and standard input in pieces, so that a signal never has to wait for the next byte.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "data/posix.h"

namespace depthroute {

/// Makes SIGINT, SIGTERM and SIGHUP (unless ignored, as by nohup) end the program only where it checks for
/// them: in throw_if_stopped() and while it waits for input. Call once, before any thread starts.
void hold_stop_signals();
/// SystemError "interrupted; nothing was written" once one of these signals has arrived.
void throw_if_stopped();

/// One input, opened. What cannot be measured beforehand (standard input, a pipe, a device) is first copied
/// to an unnamed file: where the validation text begins depends on the length of everything.
class Input {
 public:
  /// `path` "-" is standard input. Waits for a FIFO's writer and copies until its end, into `spool_folder`.
  /// DataError if it cannot be opened or read, SystemError if it cannot be copied or a signal ended it.
  Input(const std::string& path, const std::string& spool_folder);

  int64_t size() const { return size_; }  // bytes
  const std::string& path() const { return path_; }
  /// Returns the bytes available now; 0 at the end.
  size_t read(std::span<char> buffer) const;

 private:
  int64_t spool(const std::string& folder);

  std::string path_;
  std::unique_ptr<FileDescriptor> file_;
  int64_t size_ = 0;
};

}  // namespace depthroute
