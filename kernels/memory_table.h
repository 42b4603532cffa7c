// Amounts of memory under each other, as the dry runs of all programs print them.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/arena.h"

namespace depthroute {

/// "12.3 MiB"; from 1 GiB on "1.23 GiB".
std::string format_bytes(int64_t bytes);

class MemoryTable {
 public:
  /// A line "  name            12.3 MiB  remark".
  void add(const std::string& name, int64_t bytes, const std::string& remark = "");
  /// A line for every purpose of the arena that needs any.
  void add_purposes(const Arena& arena);
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace depthroute
