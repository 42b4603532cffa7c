#include "configs/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace depthroute {

void check_failed(const char* expression, const char* file, int line, const char* message) {
  std::fprintf(stderr, "internal error: %s:%d: %s %s\n", file, line, expression, message);
  std::abort();
}

}  // namespace depthroute
