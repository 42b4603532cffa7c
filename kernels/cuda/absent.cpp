// kernels/cuda for builds without CUDA: reports that there is no device, and has no kernels.
#include "configs/base/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_chooser.h"
#include "kernels/cuda/sum_rows.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {

bool built() { return false; }

const std::string& unavailable() {
  static const std::string reason = "this program was built without CUDA";
  return reason;
}

namespace {
[[noreturn]] void unreachable() {
  DR_CHECK_MSG(false, "this build has no backend for the device");
  std::abort();
}
}  // namespace

const OpTable* op_table() { return nullptr; }
void sum_rows(Stream, const Tensor&, const Tensor&) { unreachable(); }

GemmContext gemm_context() { unreachable(); }
GemmChoices tune_gemm(const std::function<void()>&) { unreachable(); }
void use_gemm_choices(const GemmChoices&) { unreachable(); }

std::string describe() { unreachable(); }
int64_t process_bytes() { unreachable(); }
int count() { return 0; }
void select(int) { unreachable(); }
void enter_thread() { unreachable(); }
std::string bus_id() { unreachable(); }
Stream make_stream() { unreachable(); }
void reserve(Stream) { unreachable(); }
void require_headroom() { unreachable(); }
void synchronize(Stream) { unreachable(); }
bool finished(Stream) { unreachable(); }
SeparateStream::SeparateStream(Urgency) { unreachable(); }
SeparateStream::~SeparateStream() = default;
Event::Event(bool) { unreachable(); }
Event::~Event() = default;
void Event::record(Stream) { unreachable(); }
void Event::hold(Stream) const { unreachable(); }
bool Event::passed() const { unreachable(); }
double Event::seconds_since(const Event&) const { unreachable(); }
void PinnedDeleter::operator()(std::byte*) const {}
PinnedBlock allocate_pinned(int64_t) { unreachable(); }
void* allocate(int64_t) { unreachable(); }
void deallocate(void*) { unreachable(); }
void* record(Stream, const std::function<void()>&) { unreachable(); }
void replay(Stream, void*) { unreachable(); }
void discard(void*) {}

}  // namespace depthroute::cuda
