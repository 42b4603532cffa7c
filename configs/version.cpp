// Recompiled whenever the commit changes, so it holds nothing else.
#include "configs/cli.h"
#include "configs/version_commit.h"

namespace depthroute {

const char* program_version() { return DEPTHROUTE_VERSION; }
const char* program_commit() { return DEPTHROUTE_COMMIT; }

}  // namespace depthroute
