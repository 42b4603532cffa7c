#include "kernels/cost/scope.h"

#include <utility>

#include "configs/base/check.h"

namespace depthroute::cost {

namespace {

struct Current {
  Log* log = nullptr;
  Options options;
  bool beside = false, waits = false;
};
thread_local Current current;

}  // namespace

Scope::Scope(Log& log, const Options& options) {
  DR_CHECK_MSG(!counting(), "cost::Scope does not nest");
  current = {.log = &log, .options = options};
}
Scope::~Scope() { current.log = nullptr; }

bool counting() { return current.log != nullptr; }

const Options& options() { return current.options; }

void set_beside(bool beside) { current.beside = beside; }
void wait_for_beside() { current.waits = true; }

void add(const KernelCost& cost) {
  DR_CHECK(counting());
  KernelCost& added = current.log->emplace_back(cost);
  added.beside = current.beside;
  added.waits = !current.beside && std::exchange(current.waits, false);
}

}  // namespace depthroute::cost
