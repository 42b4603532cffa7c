#include "kernels/op_table.h"

#include "configs/base/check.h"
#include "kernels/cost/scope.h"

namespace depthroute {

const OpTable& op_table(Device device) {
  if (cost::counting()) return *cost::op_table();
  const OpTable* table = nullptr;
  switch (device) {
    case Device::cpu:
      table = cpu::op_table();
      break;
    case Device::cuda:
      table = cuda::op_table();
      break;
  }
  DR_CHECK_MSG(table != nullptr, "this build has no kernels for the device");
  return *table;
}

}  // namespace depthroute
