#include "kernels/memory_table.h"

#include <fmt/format.h>

namespace depthroute {

std::string format_bytes(int64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib >= 1024 ? fmt::format("{:.2f} GiB", mib / 1024) : fmt::format("{:.1f} MiB", mib);
}

void MemoryTable::add(const std::string& name, int64_t bytes, const std::string& remark) {
  text_ += fmt::format("  {:<16}{:>12}{}{}\n", name, format_bytes(bytes), remark.empty() ? "" : "  ", remark);
}

void MemoryTable::add_purposes(const Arena& arena) {
  for (int i = 0; i < kNumPurposes; ++i) {
    const auto purpose = static_cast<Purpose>(i);
    if (arena.bytes(purpose) > 0) add(to_string(purpose), arena.bytes(purpose));
  }
}

}  // namespace depthroute
