#include "configs/base/sizes.h"

#include "configs/base/error.h"

namespace depthroute {

void throw_too_large() {
  throw ConfigError(
      "the model and batch of this configuration need more than 2^63 bytes of memory: use a smaller model, "
      "micro_batch or seq_len");
}

}  // namespace depthroute
