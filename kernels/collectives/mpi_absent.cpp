// Builds without MPI: one process, and a clear word where several were started.
#include <cstdlib>

#include "configs/base/error.h"
#include "kernels/collectives/launcher.h"
#include "kernels/collectives/world.h"

namespace depthroute {

std::unique_ptr<World> make_world() {
  const Launch launch = launch_of_environment();
  if (launch.processes > 1)
    throw ConfigError(
        "{} started {} processes, but this program was built without MPI: install Open MPI's development "
        "package, configure again and rebuild",
        launch.launcher, launch.processes);
  return make_single_world();
}

}  // namespace depthroute
