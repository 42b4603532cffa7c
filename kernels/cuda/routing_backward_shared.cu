// Depth routing, backward, second part: the gradients of the sources that up to 8 sites share, and of the
// logits' parameters. The arithmetic is in routing_backward_shared.cuh.
//
// Memory traffic per token and G sites, in rows of D: 3 G + 3 (n - 1). With G = 8 and n = 9 that is 48 rows,
// 98 KB in bf16 at D = 1024, 29 ns of an H100's 3.35 TB/s; one site at a time, it would be 27 G = 216 rows.
#include <algorithm>
#include <array>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/cuda/routing_backward_shared.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

using namespace backward_shared;

/// After the chunk's last token: du and dbias to the chunk's row of `partials`.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void store_partials(const Block& block, const Registers<T, kSites, kQuads>& mine,
                                               float* partials) {
  float* partial = partials + static_cast<int64_t>(blockIdx.x) * (block.d + 1) * kSites;
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = block.column(q);
      if (c >= block.d) continue;
      for (int e = 0; e < kQuad; ++e) partial[g * block.d + c + e] = mine.du[g][q][e];
    }
  }
  __syncthreads();
  if (block.thread < kSites)
    partial[kSites * block.d + block.thread] = block.shared[block.at.dbias + block.thread];
}

/// kFull: the launch has kSites sites, known at compile time, so that loads and sums of all sites are one
/// straight block. Otherwise it has fewer.
template <typename T, bool kFull, int kSites, int kQuads, int kThreads>
__global__ __launch_bounds__(kThreads) void routing_backward_shared_kernel(
    const __grid_constant__ SharedArguments<T> a, int64_t n_tokens, int d,
    float* partials /*[chunks, kSites * D + kSites]: du, dbias*/) {
  DR_DYNAMIC_SHARED(float, shared);
  const Block block(kSites, a.count, d, shared);
  Registers<T, kSites, kQuads> mine = {};
  start_chunk(a, block, mine);
  const TokenRange range = chunk_tokens(n_tokens, gridDim.x, blockIdx.x);
  mine.norms = load_norms<kFull, kSites>(a, block, range.begin);
  for (int64_t token = range.begin; token < range.end; ++token) {
    Saved first_saved, second_saved;
    if (block.warp == 0) {
      first_saved = load_saved<kSites>(a, block, token, 0);
      second_saved = load_saved<kSites>(a, block, token, 1);
    }
    const int64_t row = token * d;
    find_dh<kFull>(a, block, token, mine);
    if (token + 1 < range.end) mine.norms = load_norms<kFull, kSites>(a, block, token + 1);
    for_steps<kSources>(a.count,
                        [&]<int kCount>(int first) { find_products_of<kCount>(a, block, row, first, mine); });
    __syncthreads();
    if (block.warp == 0) find_factors<T, kSites>(a, block, token, first_saved, second_saved);
    __syncthreads();
    add_current<kFull>(a, block, row, mine);
    for_steps<kSources>(
        a.count, [&]<int kCount>(int first) { add_gradients_of<kCount, kFull>(a, block, row, first, mine); });
  }
  store_partials(block, mine, partials);
}

// ---- du of each site becomes the gradients of query and key_norm: stage two, in the order of add_partials.

struct QueryGradients {
  const float *query, *key_norm;  // [D]
  float *dquery, *dkey_norm;      // [D], += or nullptr
  float* dbias;                   // [1], += or nullptr
};
struct GroupGradients {
  QueryGradients site[kMaxGroupSites];
};
constexpr int kColumns = 32, kRows = 16;  // of a block

__global__ void add_query_gradients_kernel(const __grid_constant__ GroupGradients a, int64_t chunks, int d,
                                           int sites, const float* partials) {
  __shared__ double sums[kRows][kColumns];
  const int g = static_cast<int>(blockIdx.y);
  const int c = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x);  // D: the bias
  const int64_t column = c < d ? static_cast<int64_t>(g) * d + c : static_cast<int64_t>(sites) * d + g;
  double sum = 0;
  if (c <= d)
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kRows)
      sum += static_cast<double>(partials[chunk * (d + 1) * sites + column]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c > d) return;
  double total = 0;
  for (int row = 0; row < kRows; ++row) total += sums[row][threadIdx.x];
  const QueryGradients& site = a.site[g];
  if (c < d && site.dquery) {
    site.dquery[c] += static_cast<float>(total * static_cast<double>(site.key_norm[c]));
    site.dkey_norm[c] += static_cast<float>(total * static_cast<double>(site.query[c]));
  }
  if (c == d && site.dbias) site.dbias[0] += static_cast<float>(total);
}

template <typename T>
SharedArguments<T> shared_arguments(std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                                    std::span<const Tensor> dsources,
                                    std::span<const RoutingGradients> gradients,
                                    std::span<const bool> starts) {
  SharedArguments<T> a{};
  a.sites = static_cast<int>(sites.size());
  a.n = static_cast<int>(sites[0].sources.size());
  for (size_t g = 0; g < sites.size(); ++g) {
    const RoutingSite& site = sites[g];
    const size_t last = site.sources.size() - 1;
    a.site[g] = {.doutput = pointer<T>(doutputs[g]),
                 .output = pointer<T>(site.output),
                 .current = pointer<T>(site.drops(last) ? site.output : site.sources[last]),
                 .inverse_norm = pointer<float>(site.inverse_norm),
                 .query = pointer<float>(site.query),
                 .key_norm = pointer<float>(site.key_norm),
                 .norm_weight = pointer<float>(site.norm_weight),
                 .weights = pointer<float>(site.weights),
                 .inv_rms = pointer<float>(site.inv_rms),
                 .dots = pointer<float>(site.dots),
                 .rstd = pointer<float>(site.rstd),
                 .projection = pointer<float>(site.projection),
                 .dlogits = pointer<float>(gradients[g].logits)};
  }
  for (size_t j = 0; j < dsources.size(); ++j) {
    if (std::all_of(sites.begin(), sites.end(), [&](const RoutingSite& s) { return s.drops(j); })) continue;
    const int s = a.count++;
    a.source[s] = pointer<T>(sites[0].sources[j]);
    a.dsource[s] = pointer<T>(dsources[j]);
    a.place[s] = static_cast<uint8_t>(j);
    const uint64_t bit = uint64_t{1} << s;
    if (std::find(a.dsource, a.dsource + s, a.dsource[s]) != a.dsource + s)
      a.repeated |= bit;
    else if (!starts[j])
      a.reads |= bit;
  }
  a.scaled = sites.size() == 1 && !sites[0].scale.empty();
  for (int j = 0; j < a.n && a.scaled; ++j) a.scale[j] = sites[0].scale_of(static_cast<size_t>(j));
  return a;
}

/// One launch.
void backward_of(Stream stream, std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                 std::span<const Tensor> dsources, std::span<const RoutingGradients> gradients,
                 std::span<const bool> starts, const Tensor& workspace) {
  const int64_t n_tokens = doutputs[0].rows(), chunks = routing_chunks(n_tokens);
  const int d = static_cast<int>(doutputs[0].cols());
  const GroupShape shape = group_shape(d);
  float* partials = pointer<float>(workspace);
  for (const RoutingGradients& to : gradients)  // of sources that no site reads
    if (to.logits.defined()) zero(stream, to.logits);
  with_activation_type(doutputs[0].dtype, [&]<typename T>() {
    const SharedArguments<T> arguments = shared_arguments<T>(sites, doutputs, dsources, gradients, starts);
    const bool full = static_cast<int>(sites.size()) == shape.sites;
    const auto kernel = shape.sites == 8 && full   ? routing_backward_shared_kernel<T, true, 8, 1, 512>
                        : shape.sites == 8         ? routing_backward_shared_kernel<T, false, 8, 1, 512>
                        : shape.sites == 4 && full ? routing_backward_shared_kernel<T, true, 4, 2, 512>
                        : shape.sites == 4         ? routing_backward_shared_kernel<T, false, 4, 2, 512>
                        : shape.threads <= 512     ? routing_backward_shared_kernel<T, true, 1, 8, 512>
                                                   : routing_backward_shared_kernel<T, true, 1, 8, 1024>;
    const Layout layout(shape.sites, arguments.count, shape.threads, d);
    launch(kernel, dim3(static_cast<unsigned>(chunks)), dim3(static_cast<unsigned>(shape.threads)),
           static_cast<size_t>(layout.total) * sizeof(float), handle(stream), arguments, n_tokens, d,
           partials);
  });
  GroupGradients to{};
  for (size_t g = 0; g < sites.size(); ++g)
    to.site[g] = {.query = pointer<float>(sites[g].query),
                  .key_norm = pointer<float>(sites[g].key_norm),
                  .dquery = pointer<float>(gradients[g].query),
                  .dkey_norm = pointer<float>(gradients[g].key_norm),
                  .dbias = pointer<float>(gradients[g].recency_bias)};
  launch(add_query_gradients_kernel,
         dim3(static_cast<unsigned>(div_ceil(d + 1, kColumns)), static_cast<unsigned>(sites.size())),
         dim3(kColumns, kRows), 0, handle(stream), to, chunks, d, shape.sites, partials);
}

}  // namespace

int64_t routing_backward_workspace(Device, int64_t hidden_size) {
  return group_workspace_floats(hidden_size);
}

void routing_backward_shared(Stream stream, std::span<const RoutingSite> sites,
                             std::span<const Tensor> doutputs, std::span<const Tensor> dsources,
                             std::span<const float> betas, std::span<const RoutingGradients> gradients,
                             const Tensor& workspace) {
  if (doutputs[0].rows() == 0) return;
  std::array<bool, kMaxSources> starts{};
  for (size_t j = 0; j < betas.size(); ++j) {
    starts[j] = betas[j] == 0.0f;
    if (!starts[j] ||
        std::none_of(sites.begin(), sites.end(), [&](const RoutingSite& s) { return s.drops(j); }))
      continue;
    zero(stream, dsources[j]);  // not every launch comes to a source that is dropped somewhere
    starts[j] = false;
  }
  for (size_t first = 0, count = 0; first < sites.size(); first += count) {
    count = sites_of_launch(sites.subspan(first), doutputs[0].cols(), is_scaled);
    backward_of(stream, sites.subspan(first, count), doutputs.subspan(first, count), dsources,
                gradients.subspan(first, count), starts, workspace);
    starts.fill(false);
  }
}

}  // namespace depthroute::cuda
