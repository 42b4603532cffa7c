#include "kernels/op_table.h"

namespace depthroute::cost {

const OpTable* op_table() {
  static constexpr OpTable kTable = {DR_FOR_EACH_OP(DR_TABLE_ENTRY)};
  return &kTable;
}

}  // namespace depthroute::cost
