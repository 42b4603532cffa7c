// Depth routing, backward, second part: the sources that up to 8 sites share, and the logits' parameters.
// With V_n the last source of each site and e_j = scale_j dh . V_j - scale_n dh . V_n, for every site:
//
//   dlogit_j = a_j (e_j - sum_i a_i e_i);  dV_j += scale_j a_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j)
//   du = sum over tokens of sum_j dlogit_j r_j V_j  (V_n included);  dbias = sum over tokens of dlogit_n
//
// A block has a chunk of the tokens, all its threads one token at a time; a thread has kQuads quads of the
// row, of every site and source, and keeps each site's dh (this token's) and du (the chunk's) of them in
// registers: their number, kSites * kQuads = 8 quads of each, is what decides how many sites share a pass.
// Per token:
//   a. doutput, h and V_n of all sites are read: dh, and dh . (C - V_n) with C the mix of the first site;
//   b. the sources, kSources at a time: dh . (V_j - C) of all pairs. Sums go over each warp, then to shared
//   memory.
//      C is near all of them and drops out of e_j, whatever was rounded in it: sources that are nearly equal
//      lose nothing, and V_j - C is computed once for all sites;
//   c. after a barrier, one warp per site, a lane per source: e_j, dlogit_j and the factors of pass d;
//   d. after a barrier, the sources again, from L1 or L2: gradients, read and written once in float32; du.
// u of all sites lies in shared memory. du would as well be a product of matrices, but that would read the
// sources a third time.
//
// Memory traffic per token and G sites, in rows of D: 3 G + 3 (n - 1). G = 8, n = 9: 48 rows, 98 KB in bf16
// at D = 1024, 29 ns of an H100's 3.35 TB/s; one site at a time it would be 27 G = 216.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kMaxSites = 8;  // of a launch
constexpr int kSources = 4;   // of a chunk

template <typename T>
struct SharedSite {
  const T *doutput, *mix;
  const T* current;                       // V_n; where it is dropped, and may hold anything, the mix
  const float *query, *key_norm;          // [D] or nullptr
  const float* norm_weight;               // [D]
  const float *weights, *inv_rms, *dots;  // [N,n]
  const float *rstd, *projection;         // [N]
  float* dlogits;                         // [N,n] or nullptr
};

template <typename T>
struct SharedArguments {
  int sites, n;  // n: sources of each site
  int count;     // shared sources that any site reads
  SharedSite<T> site[kMaxSites];
  const T* source[kMaxSources];
  T* dsource[kMaxSources];
  uint8_t place[kMaxSources];  // among the sites' sources
  bool repeated[kMaxSources];  // an earlier source has the same gradient
  bool scaled;                 // then there is one site
  float scale[kMaxSources];    // by place
};

/// Shared memory, in floats. Sources are padded to whole chunks.
struct Layout {
  int padded, warps, u, dots, stride, to_dh, to_u, to_v, current_to_u, dbias, total;
  __host__ __device__ Layout(int sites, int count, int threads, int d) {
    padded = (count + kSources - 1) / kSources * kSources;
    warps = threads / kWarp;
    u = 0;                          // [sites][D]
    dots = u + sites * d;           // [warps][stride]: [padded][sites] dh . (V_j - C), then per site
    stride = (padded + 2) * sites;  //   dh . (C - V_n), then dh . V_n
    to_dh = dots + (warps * stride + 3) / 4 * 4;  // [padded / kSources][sites][kSources], like to_u, to_v
    to_u = to_dh + padded * sites;
    to_v = to_u + padded * sites;
    current_to_u = to_v + padded * sites;  // [sites]
    dbias = current_to_u + sites;          // [sites]
    total = dbias + sites;
  }
};

/// What pass c reads from memory of one site and source; fetched early for a warp's first site and sources.
struct Saved {
  float weight = 0, inv_rms = 0, dot = 0;
};
template <typename T>
__device__ __forceinline__ Saved load_saved(const SharedSite<T>& site, int64_t at) {
  return {site.weights[at], site.inv_rms[at], site.dots[at]};
}

template <typename T, int kSites, int kQuads, int kThreads>
__global__ __launch_bounds__(kThreads) void routing_backward_shared_kernel(
    const __grid_constant__ SharedArguments<T> a, int64_t n_tokens, int d,
    float* partials /*[chunks, kSites * D + kSites]: du, dbias*/) {
  DR_DYNAMIC_SHARED(float, shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int lane = thread % kWarp, warp = thread / kWarp;
  const Layout at(kSites, a.count, threads, d);
  const auto column = [&](int q) { return (q * threads + thread) * kQuad; };

  float du[kSites][kQuads][kQuad];
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = column(q);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) du[g][q][e] = 0;
      if (c >= d) continue;
      Quad u = {};
      if (g < a.sites && a.site[g].query) {
        u = load_quad(a.site[g].query + c);
        const Quad key_norm = load_quad(a.site[g].key_norm + c);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) u.x[e] *= key_norm.x[e];
      }
      store_quad(shared + at.u + g * d + c, u);
    }
  }
  if (thread < kSites) shared[at.dbias + thread] = 0;

  const TokenRange range = chunk_tokens(n_tokens, gridDim.x, blockIdx.x);
  for (int64_t token = range.begin; token < range.end; ++token) {
    const int64_t row = token * d, saved_row = token * a.n;
    Saved first_saved;
    if (warp < a.sites && lane < a.count) first_saved = load_saved(a.site[warp], saved_row + a.place[lane]);

    // a. dh of all sites.
    float dh[kSites][kQuads][kQuad];
    RawQuad<T> common[kQuads];            // C
    float with_current[2 * kSites] = {};  // dh . (C - V_n) of all sites; dh . V_n of the only one with scales
#pragma unroll
    for (int q = 0; q < kQuads; ++q)
      common[q] = column(q) < d ? load_raw_quad(a.site[0].mix + row + column(q)) : RawQuad<T>{};
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      const bool active = g < a.sites;
      const float rstd = active ? a.site[g].rstd[token] : 0, p = active ? a.site[g].projection[token] : 0;
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const int c = column(q);
        const bool inside = active && c < d;
        const Quad dy = inside ? load_quad(a.site[g].doutput + row + c) : Quad{};
        const Quad h = inside ? load_quad(a.site[g].mix + row + c) : Quad{};
        const Quad v = inside ? load_quad(a.site[g].current + row + c) : Quad{};
        const Quad w = inside ? load_quad(a.site[g].norm_weight + c) : Quad{};
        const Quad near = unpack(common[q]);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) {
          dh[g][q][e] = rstd * (dy.x[e] * w.x[e] - p * h.x[e]);
          with_current[g] += dh[g][q][e] * (near.x[e] - v.x[e]);
          if (g == 0) with_current[kSites] += dh[g][q][e] * v.x[e];
        }
      }
    }
    float* dots = shared + at.dots + warp * at.stride;
    {
      const float total = warp_sum_spread(with_current);
      if (lane < 2 * kSites) dots[at.padded * kSites + spread_index<2 * kSites>(lane)] = total;
    }

    // b. The products of all pairs.
    for (int first = 0; first < a.count; first += kSources) {
      float with_dh[kSources * kSites] = {};
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const int c = column(q);
        RawQuad<T> raw[kSources];
#pragma unroll
        for (int k = 0; k < kSources; ++k)
          raw[k] = first + k < a.count && c < d ? load_raw_quad(a.source[first + k] + row + c) : RawQuad<T>{};
#pragma unroll
        for (int k = 0; k < kSources; ++k) {
          Quad v = unpack(raw[k]);
          const Quad near = unpack(common[q]);
#pragma unroll
          for (int e = 0; e < kQuad; ++e) v.x[e] -= near.x[e];
#pragma unroll
          for (int g = 0; g < kSites; ++g)
#pragma unroll
            for (int e = 0; e < kQuad; ++e) with_dh[k * kSites + g] += dh[g][q][e] * v.x[e];
        }
      }
      const float total = warp_sum_spread(with_dh);
      constexpr int kPairs = kSources * kSites;
      if (lane < kPairs) dots[first * kSites + spread_index<kPairs>(lane)] = total;
    }
    __syncthreads();

    // c. One warp per site, sources `lane` and `lane + 32`.
    const auto total_of = [&](int pair) {
      float total = 0;
      for (int w = 0; w < at.warps; ++w) total += shared[at.dots + w * at.stride + pair];
      return total;
    };
    for (int g = warp; g < a.sites; g += at.warps) {
      const SharedSite<T>& site = a.site[g];
      const float to_common = total_of(at.padded * kSites + g);
      const float with_last = a.scaled ? total_of((at.padded + 1) * kSites + g) : 0.0f;
      const float last_scale = a.scaled ? a.scale[a.n - 1] : 1.0f;
      Saved saved[2];
      float scale[2], e[2], mean = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int j = lane + half * kWarp;
        scale[half] = 1;
        e[half] = 0;
        if (j >= a.count) continue;
        saved[half] = half == 0 && g == warp ? first_saved : load_saved(site, saved_row + a.place[j]);
        if (a.scaled) scale[half] = a.scale[a.place[j]];
        if (saved[half].weight == 0.0f) continue;  // the source may be anything
        e[half] =
            scale[half] * (total_of(j * kSites + g) + to_common) + (scale[half] - last_scale) * with_last;
        mean += saved[half].weight * e[half];
      }
      mean = warp_sum(mean);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int j = lane + half * kWarp;
        if (j >= at.padded) continue;
        const Saved& s = saved[half];
        const float dlogit = s.weight * (e[half] - mean), to_u = dlogit * s.inv_rms;
        const int place = (j / kSources * kSites + g) * kSources + j % kSources;
        shared[at.to_dh + place] = scale[half] * s.weight;
        shared[at.to_u + place] = to_u;
        shared[at.to_v + place] = to_u * (s.inv_rms * s.inv_rms * s.dot / static_cast<float>(d));
        if (site.dlogits && j < a.count) site.dlogits[saved_row + a.place[j]] = dlogit;
      }
      if (lane == 0) {
        const int64_t last = saved_row + a.n - 1;
        const float dlogit = -site.weights[last] * mean;
        shared[at.current_to_u + g] = dlogit * site.inv_rms[last];
        shared[at.dbias + g] += dlogit;
        if (site.dlogits) site.dlogits[last] = dlogit;
      }
    }
    __syncthreads();

    // d. Gradients.
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      if (g >= a.sites) continue;
      const float to_u = shared[at.current_to_u + g];
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const Quad v = column(q) < d ? load_quad(a.site[g].current + row + column(q)) : Quad{};
#pragma unroll
        for (int e = 0; e < kQuad; ++e) du[g][q][e] += to_u * v.x[e];
      }
    }
    for (int first = 0; first < a.count; first += kSources) {
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const int c = column(q);
        if (c >= d) continue;
        RawQuad<T> raw[kSources];
        Quad dv[kSources];
#pragma unroll
        for (int k = 0; k < kSources; ++k) {
          const int s = first + k;
          raw[k] = s < a.count ? load_raw_quad(a.source[s] + row + c) : RawQuad<T>{};
          dv[k] = s < a.count && !a.repeated[s] ? load_quad(a.dsource[s] + row + c) : Quad{};
        }
        float to_v[kSources] = {};
#pragma unroll
        for (int g = 0; g < kSites; ++g) {
          if (g >= a.sites) continue;
          const int place = (first / kSources * kSites + g) * kSources;
          const Quad site_to_dh = load_quad(shared + at.to_dh + place);
          const Quad site_to_u = load_quad(shared + at.to_u + place);
          const Quad site_to_v = load_quad(shared + at.to_v + place);
          const Quad u = load_quad(shared + at.u + g * d + c);
#pragma unroll
          for (int k = 0; k < kSources; ++k) {
            const Quad v = unpack(raw[k]);
            to_v[k] += site_to_v.x[k];
#pragma unroll
            for (int e = 0; e < kQuad; ++e) {
              dv[k].x[e] += site_to_dh.x[k] * dh[g][q][e] + site_to_u.x[k] * u.x[e];
              du[g][q][e] += site_to_u.x[k] * v.x[e];
            }
          }
        }
#pragma unroll
        for (int k = 0; k < kSources; ++k) {
          const int s = first + k;
          if (s >= a.count) continue;
          const Quad v = unpack(raw[k]);
          // After the earlier one has been stored.
          const Quad before = a.repeated[s] ? load_quad(a.dsource[s] + row + c) : Quad{};
#pragma unroll
          for (int e = 0; e < kQuad; ++e) dv[k].x[e] += before.x[e] - to_v[k] * v.x[e];
          store_quad(a.dsource[s] + row + c, dv[k]);
        }
      }
    }
  }

  float* partial = partials + static_cast<int64_t>(blockIdx.x) * (d + 1) * kSites;
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = column(q);
      if (c >= d) continue;
      for (int e = 0; e < kQuad; ++e) partial[g * d + c + e] = du[g][q][e];
    }
  }
  __syncthreads();
  if (thread < kSites) partial[kSites * d + thread] = shared[at.dbias + thread];
}

// ---- du of each site becomes the gradients of query and key_norm: stage two, in the order of add_partials.

struct QueryGradients {
  const float *query, *key_norm;  // [D]
  float *dquery, *dkey_norm;      // [D], += or nullptr
  float* dbias;                   // [1], += or nullptr
};
struct GroupGradients {
  QueryGradients site[kMaxSites];
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

/// How many sites one launch takes, and its threads: by the registers that dh and du take.
struct GroupShape {
  int sites, quads, threads;
};
GroupShape group_shape(int64_t d) {
  const GroupShape shape = d <= 2048   ? GroupShape{8, 1, 0}
                           : d <= 4096 ? GroupShape{4, 2, 0}
                                       : GroupShape{1, 8, 0};
  const int64_t threads = round_up(div_ceil(d, int64_t{kQuad} * shape.quads), int64_t{kWarp});
  return {shape.sites, shape.quads, static_cast<int>(threads)};
}

template <typename T>
SharedArguments<T> shared_arguments(std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                                    std::span<const Tensor> dsources,
                                    std::span<const RoutingGradients> gradients) {
  SharedArguments<T> a{};
  a.sites = static_cast<int>(sites.size());
  a.n = static_cast<int>(sites[0].sources.size());
  for (size_t g = 0; g < sites.size(); ++g) {
    const RoutingSite& site = sites[g];
    const size_t last = site.sources.size() - 1;
    a.site[g] = {.doutput = pointer<T>(doutputs[g]),
                 .mix = pointer<T>(site.mix),
                 .current = pointer<T>(site.drops(last) ? site.mix : site.sources[last]),
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
    a.repeated[s] = std::find(a.dsource, a.dsource + s, a.dsource[s]) != a.dsource + s;
  }
  a.scaled = sites.size() == 1 && !sites[0].scale.empty();
  for (int j = 0; j < a.n && a.scaled; ++j) a.scale[j] = sites[0].scale_of(static_cast<size_t>(j));
  return a;
}

/// One launch.
void backward_of(Stream stream, std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                 std::span<const Tensor> dsources, std::span<const RoutingGradients> gradients,
                 const Tensor& workspace) {
  const int64_t n_tokens = doutputs[0].rows(), chunks = routing_chunks(n_tokens);
  const int d = static_cast<int>(doutputs[0].cols());
  const GroupShape shape = group_shape(d);
  float* partials = pointer<float>(workspace);
  for (const RoutingGradients& to : gradients)  // of sources that no site reads
    if (to.logits.defined()) zero(stream, to.logits);
  with_activation_type(doutputs[0].dtype, [&]<typename T>() {
    const SharedArguments<T> arguments = shared_arguments<T>(sites, doutputs, dsources, gradients);
    const auto kernel = shape.sites == 8       ? routing_backward_shared_kernel<T, 8, 1, 512>
                        : shape.sites == 4     ? routing_backward_shared_kernel<T, 4, 2, 512>
                        : shape.threads <= 512 ? routing_backward_shared_kernel<T, 1, 8, 512>
                                               : routing_backward_shared_kernel<T, 1, 8, 1024>;
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
  return kRoutingChunks * (hidden_size + 1) * group_shape(hidden_size).sites;
}

void routing_backward_shared(Stream stream, std::span<const RoutingSite> sites,
                             std::span<const Tensor> doutputs, std::span<const Tensor> dsources,
                             std::span<const RoutingGradients> gradients, const Tensor& workspace) {
  if (doutputs[0].rows() == 0) return;
  const size_t most = static_cast<size_t>(group_shape(doutputs[0].cols()).sites);
  for (size_t first = 0, count = 0; first < sites.size(); first += count) {
    // A site with scales has a launch to itself.
    count = 1;
    if (sites[first].scale.empty())
      while (count < most && first + count < sites.size() && sites[first + count].scale.empty()) ++count;
    backward_of(stream, sites.subspan(first, count), doutputs.subspan(first, count), dsources,
                gradients.subspan(first, count), workspace);
  }
}

}  // namespace depthroute::cuda
