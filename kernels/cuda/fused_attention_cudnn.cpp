// Fused attention through cuDNN's graph interface. The only file that includes cudnn-frontend, which takes
// about 20 seconds and 1 GB to compile. A graph (sdpa or sdpa_backward) is described once per shape; cuDNN's
// heuristics choose an engine for it and compile it for the device; a call then only passes pointers.
// https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "configs/base/error.h"
#include "configs/base/sizes.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cudnn_library.h"
#include "kernels/cuda/fused_attention.h"
#include "kernels/cuda/fused_attention_rules.h"

namespace depthroute::cuda {
namespace {

namespace fe = cudnn_frontend;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kLse, kDOut, kDq, kDk, kDv };

/// What a plan depends on. Heads of v and dv lie K apart, tokens `v_stride` and `dv_stride`.
struct Request {
  AttentionShape shape;
  bool backward = false, deterministic = false;
  int64_t v_stride = 0, dv_stride = 0;

  std::array<int64_t, 9> key() const {
    return {shape.batch, shape.seq_len, shape.num_heads, shape.num_kv_heads, shape.head_dim,
            backward,    deterministic, v_stride,        dv_stride};
  }
  std::string describe() const {
    return fmt::format("attention {} of {} x {} tokens, {} heads ({} kv) of {}{}, row stride of v {}",
                       backward ? "backward" : "forward", shape.batch, shape.seq_len, shape.num_heads,
                       shape.num_kv_heads, shape.head_dim, deterministic ? ", deterministic" : "", v_stride);
  }
};

struct Plan {
  std::unique_ptr<fe::graph::Graph> graph;  // null: cuDNN has no plan
  int64_t workspace_bytes = 0;
  std::string detail;  // the plan's name, or why there is none
};

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// A [N, heads*K] buffer as cuDNN's [B, heads, T, K].
fe::graph::Tensor_attributes heads_view(const char* name, Uid uid, const AttentionShape& s, int64_t heads,
                                        int64_t row_stride) {
  return fe::graph::Tensor_attributes()
      .set_name(name)
      .set_uid(uid)
      .set_data_type(fe::DataType_t::BFLOAT16)
      .set_dim({s.batch, heads, s.seq_len, s.head_dim})
      .set_stride({s.seq_len * row_stride, s.head_dim, row_stride, 1});
}

/// Makes a tensor that a node returned an output, laid out as `like`.
void set_output(const Attributes& tensor, const fe::graph::Tensor_attributes& like) {
  tensor->set_output(true)
      .set_uid(like.get_uid())
      .set_data_type(like.get_data_type())
      .set_dim(like.get_dim())
      .set_stride(like.get_stride());
}

void describe_graph(fe::graph::Graph& graph, const Request& request) {
  const AttentionShape& s = request.shape;
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto lse_view = fe::graph::Tensor_attributes()
                            .set_name("lse")
                            .set_uid(kLse)
                            .set_data_type(fe::DataType_t::FLOAT)
                            .set_dim({s.batch, s.num_heads, s.seq_len, 1})
                            .set_stride({s.num_heads * s.seq_len, s.seq_len, 1, 1});
  const auto out_view = heads_view("out", kOut, s, s.num_heads, s.q_cols());
  const Attributes q = graph.tensor(heads_view("q", kQ, s, s.num_heads, s.q_cols()));
  const Attributes k = graph.tensor(heads_view("k", kK, s, s.num_kv_heads, s.kv_cols()));
  const Attributes v = graph.tensor(heads_view("v", kV, s, s.num_kv_heads, request.v_stride));

  // With as many keys as queries, aligning the diagonal at
  // the top left or the bottom right gives the same mask.
  if (!request.backward) {
    auto attributes = fe::graph::SDPA_attributes()
                          .set_name("attention")
                          .set_generate_stats(true)
                          .set_attn_scale(scale)
                          .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                          .set_diagonal_band_right_bound(0);
    const auto [out, lse] = graph.sdpa(q, k, v, attributes);
    set_output(out, out_view);
    set_output(lse, lse_view);
    return;
  }
  const Attributes out = graph.tensor(out_view);
  const Attributes lse = graph.tensor(lse_view);
  const Attributes dout = graph.tensor(heads_view("dout", kDOut, s, s.num_heads, s.q_cols()));
  auto attributes = fe::graph::SDPA_backward_attributes()
                        .set_name("attention_backward")
                        .set_attn_scale(scale)
                        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                        .set_diagonal_band_right_bound(0)
                        .set_deterministic_algorithm(request.deterministic);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, out, dout, lse, attributes);
  set_output(dq, heads_view("dq", kDq, s, s.num_heads, s.q_cols()));
  set_output(dk, heads_view("dk", kDk, s, s.num_kv_heads, s.kv_cols()));
  set_output(dv, heads_view("dv", kDv, s, s.num_kv_heads, request.dv_stride));
}

fe::error_t build(fe::graph::Graph& graph, cudnnHandle_t handle_or_null) {
  fe::error_t status = graph.validate();
  if (status.is_bad()) return status;
  status = handle_or_null ? graph.build_operation_graph(handle_or_null) : graph.build_operation_graph();
  if (status.is_bad()) return status;
  status = graph.create_execution_plans({fe::HeurMode_t::A});
  if (status.is_bad()) return status;
  status = graph.check_support();
  if (status.is_bad()) return status;
  return graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE);
}

/// cuDNN promises bitwise repeatable gradients for Hopper (the scores' gradients go through memory instead of
/// atomic additions to dq) and, from 9.18, for Blackwell's data centre GPUs. Nowhere else, although the same
/// graph gets plans elsewhere: https://github.com/NVIDIA/TransformerEngine/pull/992 and 2798.
bool deterministic_backward_promised(int sm) { return sm / 10 == 9 || sm / 10 == 10; }

/// Returns why cuDNN need not even be asked, or "". Heads and rows must start on 16-byte boundaries, and the
/// scratch that the frontend puts before the engine's (row sums, f32) must keep that aligned.
std::string refusal(const Request& request, int sm) {
  const AttentionShape& s = request.shape;
  if (s.head_dim % 8 != 0 || s.num_heads % s.num_kv_heads != 0 || s.batch * s.num_heads * s.seq_len % 4 != 0)
    return "head_dim must be a multiple of 8, num_heads of num_kv_heads, and rows of 4";
  if (request.backward && request.deterministic && !deterministic_backward_promised(sm))
    return fmt::format("no deterministic backward pass on compute capability {}.{}", sm / 10, sm % 10);
  return "";
}

/// Makes the plan for the handle's device or, without a handle, for the device that `properties` describe.
/// `sm` is its compute capability times 10.
Plan make_plan(const Request& request, int sm, cudnnHandle_t handle_or_null,
               const std::shared_ptr<const fe::DeviceProperties>& properties = nullptr) {
  Plan plan;
  plan.detail = refusal(request, sm);
  if (!plan.detail.empty()) return plan;
  auto graph = std::make_unique<fe::graph::Graph>();
  graph->set_sm_version(sm);
  if (properties) graph->set_device_properties(properties);
  try {
    describe_graph(*graph, request);
    fe::error_t status = build(*graph, handle_or_null);
    if (status.is_good()) status = graph->get_workspace_size(plan.workspace_bytes);
    if (status.is_good()) status = graph->get_plan_name(plan.detail);
    if (status.is_good())
      plan.graph = std::move(graph);
    else
      plan.detail = one_line(status.get_message());
  } catch (const std::exception& error) {  // some of the frontend's builders throw
    plan.detail = one_line(error.what());
  }
  return plan;
}

/// The calling thread's handle and plans for one device.
class Context {
 public:
  explicit Context(int device) {
    int major = 0, minor = 0;
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    sm_ = 10 * major + minor;
    const cudnnStatus_t status = cudnnCreate(&handle_);
    if (status != CUDNN_STATUS_SUCCESS)
      throw SystemError("cuDNN cannot be started: {}; check the driver and the free memory of the GPU",
                        cudnnGetErrorString(status));
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    plans_.clear();
    cudnnDestroy(handle_);
  }

  const Plan& plan(const Request& request) {
    const auto found = plans_.find(request.key());
    if (found != plans_.end()) return found->second;
    return plans_.emplace(request.key(), make_plan(request, sm_, handle_)).first->second;
  }

  void execute(Stream stream, const Request& request, std::unordered_map<int64_t, void*> pointers,
               void* workspace, int64_t workspace_bytes) {
    const Plan& ready = plan(request);
    if (!ready.graph) throw SystemError("cuDNN has no plan for {}: {}", request.describe(), ready.detail);
    check_fused_workspace(request.describe(), ready.workspace_bytes, workspace_bytes);
    DR_CHECK(reinterpret_cast<uintptr_t>(workspace) % 256 == 0);
    const cudnnStatus_t status = cudnnSetStream(handle_, handle(stream));
    if (status != CUDNN_STATUS_SUCCESS)
      throw SystemError("cuDNN refuses the stream of {}: {}", request.describe(),
                        cudnnGetErrorString(status));
    fe::error_t error = ready.graph->execute(handle_, pointers, workspace);
    if (error.is_bad())
      throw SystemError("cuDNN failed at {}: {}", request.describe(), one_line(error.get_message()));
  }

 private:
  int sm_ = 0;
  cudnnHandle_t handle_ = nullptr;
  std::map<std::array<int64_t, 9>, Plan> plans_;
};

bool device_present() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices > 0;
  cudaGetLastError();  // clear it: without a driver, a later check must not find this error
  return false;
}

Context& context() {
  thread_local std::map<int, Context> contexts;
  int device = 0;
  DR_CUDA_CHECK(cudaGetDevice(&device));
  return contexts.try_emplace(device, device).first->second;
}

/// The request of the trainer, whose v and dv are columns of a fused [N, q|k|v] buffer.
Request fused_qkv_request(const AttentionShape& shape, bool backward, bool deterministic) {
  return {shape, backward, backward && deterministic, shape.qkv_cols(), backward ? shape.qkv_cols() : 0};
}

}  // namespace

const std::string& fused_attention_absent() { return cudnn_library().problem; }

int fused_attention_version() { return cudnn_library().version; }

std::string fused_attention_name() {
  if (!fused_attention_absent().empty()) return "none";
  return fmt::format("cuDNN {} (cudnn-frontend {}.{}.{})", fused_version_text(fused_attention_version()),
                     CUDNN_FRONTEND_MAJOR_VERSION, CUDNN_FRONTEND_MINOR_VERSION,
                     CUDNN_FRONTEND_PATCH_VERSION);
}

std::string fused_attention_refusal(const AttentionShape& shape, DType dtype, bool deterministic,
                                    bool training) {
  if (dtype != DType::bf16) return "cuDNN's attention computes in bf16 only";
  if (!device_present()) return "there is no GPU to plan for";
  if (!fused_attention_absent().empty()) return fused_attention_absent();
  for (const bool backward : {false, true}) {
    if (backward && !training) break;
    const Request request = fused_qkv_request(shape, backward, deterministic);
    const Plan& plan = context().plan(request);
    if (!plan.graph) return fmt::format("cuDNN has no plan for {}: {}", request.describe(), plan.detail);
  }
  return "";
}

int64_t fused_attention_workspace(const AttentionShape& shape, bool deterministic, bool training) {
  if (!device_present()) return fused_attention_workspace_bound(shape, deterministic, training);
  if (!fused_attention_refusal(shape, DType::bf16, deterministic, training).empty()) return 0;
  int64_t bytes = context().plan(fused_qkv_request(shape, false, deterministic)).workspace_bytes;
  if (training)
    bytes = std::max(bytes, context().plan(fused_qkv_request(shape, true, deterministic)).workspace_bytes);
  return bytes;
}

// Forward needs a few words. Backward needs the row sums of out * dout [B,H,T] f32; if kv heads are shared,
// dk and dv of every query head, [B,H,T,K] bf16 each; and
//   by default        dq [B,H,T,K] f32, on 8.0 twice, once with T padded to 8
//   deterministic     the gradients of all scores [B,H,T,T] bf16, T padded to a tile of 128
// As the plans of cuDNN 9.19 have it: tests/kernels/test_fused_attention_plans.cpp.
int64_t fused_attention_workspace_bound(const AttentionShape& s, bool deterministic, bool training) {
  constexpr int64_t kEngineBytes = 1024, kF32 = 4, kBf16 = 2;
  if (!training) return kEngineBytes;
  const int64_t sequences = s.batch * s.num_heads, rows = checked_product(sequences, s.seq_len);
  const int64_t row_sums = checked_product(rows, kF32);
  const int64_t per_head = s.num_heads == s.num_kv_heads ? 0 : checked_product(2 * kBf16, rows, s.head_dim);
  const int64_t tiled = round_up(s.seq_len, 128);
  const int64_t gradients =
      deterministic ? checked_product(sequences, tiled, tiled, kBf16)
                    : checked_product(sequences, s.seq_len + round_up(s.seq_len, 8), s.head_dim, kF32);
  return checked_sum(checked_sum(kEngineBytes, row_sums), checked_sum(per_head, gradients));
}

void fused_attention_forward(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& out, const Tensor& lse, void* workspace,
                             int64_t workspace_bytes) {
  const Request request{shape, false, false, v.row_stride(), 0};
  context().execute(
      stream, request,
      {{kQ, q.pointer}, {kK, k.pointer}, {kV, v.pointer}, {kOut, out.pointer}, {kLse, lse.pointer}},
      workspace, workspace_bytes);
}

void fused_attention_backward(Stream stream, const AttentionShape& shape, bool deterministic,
                              const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                              const Tensor& out, const Tensor& lse, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, void* workspace, int64_t workspace_bytes) {
  const Request request{shape, true, deterministic, v.row_stride(), dv.row_stride()};
  context().execute(stream, request,
                    {{kQ, q.pointer},
                     {kK, k.pointer},
                     {kV, v.pointer},
                     {kOut, out.pointer},
                     {kLse, lse.pointer},
                     {kDOut, dout.pointer},
                     {kDq, dq.pointer},
                     {kDk, dk.pointer},
                     {kDv, dv.pointer}},
                    workspace, workspace_bytes);
}

FusedAttentionPlan fused_attention_plan(const std::string& properties, int sm, const AttentionShape& shape,
                                        bool backward, bool deterministic) {
  if (!fused_attention_absent().empty()) return {false, 0, fused_attention_absent()};
  auto device = std::make_shared<fe::DeviceProperties>();
  fe::error_t status = device->deserialize({properties.begin(), properties.end()});
  if (status.is_bad()) return {false, 0, one_line(status.get_message())};
  const Plan plan = make_plan(fused_qkv_request(shape, backward, deterministic), sm, nullptr, device);
  return {plan.graph != nullptr, plan.workspace_bytes, plan.detail};
}

}  // namespace depthroute::cuda
