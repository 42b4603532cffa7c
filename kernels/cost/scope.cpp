#include "kernels/cost/scope.h"

#include "configs/base/check.h"

namespace depthroute::cost {

namespace {

struct Current {
  Log* log = nullptr;
  Options options;
};
thread_local Current current;

}  // namespace

Scope::Scope(Log& log, const Options& options) {
  DR_CHECK_MSG(!counting(), "cost::Scope does not nest");
  current = {&log, options};
}
Scope::~Scope() { current.log = nullptr; }

bool counting() { return current.log != nullptr; }

const Options& options() { return current.options; }

void add(const KernelCost& cost) {
  DR_CHECK(counting());
  current.log->push_back(cost);
}

}  // namespace depthroute::cost
