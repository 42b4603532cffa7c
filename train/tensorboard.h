// TensorBoard's event files, written by hand: records of TFRecord framing (length, masked CRC-32C of it, data,
// masked CRC-32C of them), each an Event of tensorflow/core/util/event.proto.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace depthroute {

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
uint32_t crc32c(std::string_view data);

/// One start of a run writes one file, events.out.tfevents.<number of the start>.depthroute: TensorBoard reads
/// the files of a folder in the order of their names.
class TensorBoardLog {
 public:
  /// Makes `folder` and a new file. From the files of earlier starts, events after `step` are cut off, and so
  /// is what a kill left unfinished, so that every step is there once; a file in which nothing is left is
  /// removed. The new file begins with a session start at step + 1, on which a TensorBoard that is open forgets
  /// what it read of later steps. SystemError if the folder or a file cannot be written.
  TensorBoardLog(const std::string& folder, int64_t step);
  ~TensorBoardLog();
  TensorBoardLog(const TensorBoardLog&) = delete;
  TensorBoardLog& operator=(const TensorBoardLog&) = delete;

  /// Writes every number of a line of metrics.jsonl as a scalar at its "step", those of an object inside it as
  /// "<object>/<key>". One event, in one system call.
  void write(const nlohmann::ordered_json& line);
  void sync();

 private:
  void append(const std::string& event);

  std::string path_;
  int fd_ = -1;
};

}  // namespace depthroute
