#include "kernels/op_table.h"

namespace depthroute::cuda {

const OpTable* op_table() {
  static constexpr OpTable kTable = {DR_FOR_EACH_OP(DR_TABLE_ENTRY)};
  return &kTable;
}

}  // namespace depthroute::cuda
