// Depth routing, forward, first of two phases: what up to 8 sites read from the finished blocks that they
// share. For every site, over the sources j < n-1:
//
//   r_j = 1/sqrt(mean(V_j^2) + key_eps);  c_j = u . V_j;  a = softmax(r_j c_j + offset_j)
//   partial = sum_j scale_j a_j V_j;  lse = log sum_j exp(r_j c_j + offset_j)
//
// A block takes a chunk of the tokens, one token at a time with all its threads. A thread owns kQuads quads of
// the row, and keeps u of every site for them in registers: kSites * kQuads = 8 quads. Per token:
//   a. find_products: reads the sources, at most kSources at a time. Gives the squares of each, and the products of
//      each with every site's u, summed over each warp and left in shared memory. The first sources were
//      loaded before the token before was mixed, so that their latency is hidden.
//   b. find_weights: after a barrier, one warp, a lane per site and part of the sources. Gives the weights.
//   c. write_partials: after a barrier, reads the sources again, from L1 or L2, and writes the partial mixes.
// As in routing_backward_shared.cuh, instructions limit the speed.
// Neither the order of a site's sums nor its place in memory depends on the other sites of the call.
//
// Memory traffic per token and G sites, in rows of D: n-1 read, G written, and G more read by the second phase
// (routing_merge.cu); a one-phase read of each site reads G (n-1). Two phases move less where
// G (n-1) > (n-1) + 2 G: with G = 8, where n-1 >= 3. At n-1 = 7 that is 23 rows instead of 56.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

/// Sources of a step of phases a and c, but for the last step.
template <typename T>
constexpr int kSources = sizeof(T) == 2 ? 4 : 2;

template <typename T>
struct FinishedSite {
  const float *query, *key_norm;  // [D] or nullptr
  float key_eps;
  float *weights, *inv_rms, *dots;  // [N,n]
  T* partial;                       // [N,D]
  float* lse;                       // [N]
};

template <typename T>
struct FinishedArguments {
  int sites, n;  // n: sources of each site
  int count;     // finished sources that are not dropped
  FinishedSite<T> site[kMaxGroupSites];
  const T* source[kMaxSources];                 // [N,D]
  uint8_t place[kMaxSources];                   // among the sites' sources
  bool altered;                                 // there are offsets or scales; then there is one site
  uint64_t dropped;                             // bit j: source j is
  float bias[kMaxSources], scale[kMaxSources];  // of the sources that are not
};

/// Shared memory, in floats. Sources are padded to whole steps.
struct Layout {
  int padded;   // sources, rounded up to a multiple of a step's
  int warps;    // of the block
  int factors;  // [padded][sites]: scale_j a_j
  int squares;  // [warps][padded]
  int dots;     // [warps][padded][sites]
  int sources;  // [padded] int64: elements from the first source; beyond the last source, as far as that
  int total;

  __host__ __device__ Layout(int step, int sites, int count, int threads) {
    padded = (count + step - 1) / step * step;
    warps = threads / kWarp;
    factors = 0;
    squares = padded * sites;
    dots = squares + warps * padded;
    sources = (dots + warps * padded * sites + 3) / 4 * 4;
    total = sources + padded * static_cast<int>(sizeof(int64_t) / sizeof(float));
  }
};

/// One thread's view of its block, and what it keeps in registers.
template <typename T, int kSites, int kQuads>
struct Block {
  int d, thread, threads, lane, warp;
  Layout at;
  float* shared;
  float u[kSites][kQuads][kQuad];
  RawQuad<T> ahead[kSources<T>];  // the first quads of the next token's first sources

  __device__ __forceinline__ Block(int count, int columns, float* shared_memory)
      : d(columns),
        thread(static_cast<int>(threadIdx.x)),
        threads(static_cast<int>(blockDim.x)),
        lane(thread % kWarp),
        warp(thread / kWarp),
        at(kSources<T>, kSites, count, threads),
        shared(shared_memory) {}

  /// First column of the thread's q-th quad.
  __device__ __forceinline__ int column(int q) const { return (q * threads + thread) * kQuad; }
  __device__ __forceinline__ int64_t& source(int s) const {
    return reinterpret_cast<int64_t*>(shared + at.sources)[s];
  }
  /// Loads the q-th quad of kCount sources from `first` on, all of them before any is used, in the lane's order.
  template <int kCount>
  __device__ __forceinline__ void load(const FinishedArguments<T>& a, int first, int q, int64_t token,
                                       RawQuad<T>* raw) const {
    const int64_t from = token * d + column(q);
    const bool inside = column(q) < d;
    const int own = own_group<kCount>(lane);
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      raw[k] = inside ? load_raw_quad(a.source[0] + source(first + (k ^ own)) + from) : RawQuad<T>{};
  }
  __device__ __forceinline__ void load_ahead(const FinishedArguments<T>& a, int64_t token) {
    if (a.count > kSources<T> / 2) {
      load<kSources<T>>(a, 0, 0, token, ahead);
    } else if (a.count > 0) {
      load<kSources<T> / 2>(a, 0, 0, token, ahead);
    }
  }
};

/// Before the chunk's first token: tables, u, and the first token's first sources.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void start_chunk(const FinishedArguments<T>& a, int64_t token,
                                            Block<T, kSites, kQuads>& block) {
  for (int s = block.thread; s < block.at.padded; s += block.threads)
    block.source(s) = elements_between(a.source[0], a.source[min(s, a.count - 1)]);
  __syncthreads();
  block.load_ahead(a, token);
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = block.column(q);
      const bool reads = g < a.sites && a.site[g].query && c < block.d;
      const Quad query = reads ? load_quad(a.site[g].query + c) : Quad{};
      const Quad key_norm = reads ? load_quad(a.site[g].key_norm + c) : Quad{};
#pragma unroll
      for (int e = 0; e < kQuad; ++e) block.u[g][q][e] = query.x[e] * key_norm.x[e];
    }
  }
}

/// Phase a for kCount sources from `first` on.
template <int kCount, typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_products_of(const FinishedArguments<T>& a, int64_t token, int first,
                                                 const Block<T, kSites, kQuads>& block) {
  float square[kCount] = {}, with_u[kCount * kSites] = {};
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    RawQuad<T> raw[kCount];
    if (first == 0 && q == 0) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) raw[k] = block.ahead[k];
    } else {
      block.template load<kCount>(a, first, q, token, raw);
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const Quad v = unpack(raw[k]);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) square[k] += v.x[e] * v.x[e];
#pragma unroll
      for (int g = 0; g < kSites; ++g)
#pragma unroll
        for (int e = 0; e < kQuad; ++e) with_u[k * kSites + g] += v.x[e] * block.u[g][q][e];
    }
  }
  float* const squares = block.shared + block.at.squares + block.warp * block.at.padded + first;
  float* const dots = block.shared + block.at.dots + (block.warp * block.at.padded + first) * kSites;
  const float square_total = warp_sum_groups<kCount, 1>(square);
  if (const int source = group_index<kCount, 1>(block.lane); source >= 0) squares[source] = square_total;
  const float total = warp_sum_groups<kCount, kSites>(with_u);
  if (const int pair = group_index<kCount, kSites>(block.lane); pair >= 0) dots[pair] = total;
}

/// Phase b, by one warp. Its loops are short, and not unrolled for the sake of registers.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_weights(const FinishedArguments<T>& a, int64_t token,
                                             const Block<T, kSites, kQuads>& block) {
  const SiteLane<kSites> lane(block.lane);
  const int g = lane.site;
  const bool active = g < a.sites;
  const FinishedSite<T>& site = a.site[active ? g : 0];
  float* const factors = block.shared + block.at.factors + g;  // of source s: [s * kSites]
  const auto total_of = [&](int begin, int stride) {
    float total = 0;
#pragma unroll 4
    for (int w = 0; w < block.at.warps; ++w) total += block.shared[begin + w * stride];
    return total;
  };
  float largest = -INFINITY, total = 0;
#pragma unroll 1
  for (int s = lane.part; s < a.count && active; s += lane.kParts) {
    float inv_rms = 0, dot = 0;
    if (site.query) {
      const float squares = total_of(block.at.squares + s, block.at.padded);
      inv_rms = rsqrtf(squares / static_cast<float>(block.d) + site.key_eps);
      dot = total_of(block.at.dots + s * kSites + g, block.at.padded * kSites);
    }
    const int64_t at = token * a.n + a.place[s];
    site.inv_rms[at] = inv_rms;
    site.dots[at] = dot;
    const float logit = inv_rms * dot + (a.altered ? a.bias[s] : 0.0f);
    factors[s * kSites] = logit;
    largest = fmaxf(largest, logit);
  }
  largest = lane.max_of_parts(largest);
#pragma unroll 1
  for (int s = lane.part; s < a.count && active; s += lane.kParts)
    total += factors[s * kSites] = expf(factors[s * kSites] - largest);
  total = lane.sum_of_parts(total);
#pragma unroll 1
  for (int s = lane.part; s < block.at.padded; s += lane.kParts) {
    const bool reads = s < a.count && active;
    const float weight = reads ? factors[s * kSites] / total : 0.0f;
    factors[s * kSites] = reads && a.altered ? a.scale[s] * weight : weight;
    if (reads) site.weights[token * a.n + a.place[s]] = weight;
  }
  if (lane.part != 0 || !active) return;
  site.lse[token] = largest + logf(total);  // all dropped: -inf
  if (a.dropped == 0) return;
#pragma unroll 1
  for (int j = 0; j + 1 < a.n; ++j)
    if ((a.dropped >> j & 1) != 0)
      site.weights[token * a.n + j] = site.inv_rms[token * a.n + j] = site.dots[token * a.n + j] = 0;
}

/// Phase c for kCount sources from `first` on.
template <int kCount, typename T, int kSites, int kQuads>
__device__ __forceinline__ void add_to_mixes(const FinishedArguments<T>& a, int64_t token, int first,
                                             const Block<T, kSites, kQuads>& block,
                                             float (&h)[kSites][kQuads][kQuad]) {
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int64_t from = token * block.d + (block.column(q) < block.d ? block.column(q) : 0);
    RawQuad<T> raw[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) raw[k] = load_raw_quad(a.source[min(first + k, a.count - 1)] + from);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float* const factors = block.shared + block.at.factors + (first + k) * kSites;
      const Quad v = unpack(raw[k]);
#pragma unroll
      for (int g = 0; g < kSites; ++g)
#pragma unroll
        for (int e = 0; e < kQuad; ++e) h[g][q][e] += factors[g] * v.x[e];
    }
  }
}

/// Phase c.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void write_partials(const FinishedArguments<T>& a, int64_t token,
                                               const Block<T, kSites, kQuads>& block) {
  float h[kSites][kQuads][kQuad];
#pragma unroll
  for (auto& site : h)
#pragma unroll
    for (auto& quad : site)
#pragma unroll
      for (float& x : quad) x = 0;
  for_steps<kSources<T>>(a.count,
                         [&]<int kCount>(int first) { add_to_mixes<kCount>(a, token, first, block, h); });
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    if (block.column(q) >= block.d) continue;
    const int64_t to = token * block.d + block.column(q);
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      if (g >= a.sites) continue;
      Quad mix;
#pragma unroll
      for (int e = 0; e < kQuad; ++e) mix.x[e] = h[g][q][e];
      store_quad(a.site[g].partial + to, mix);
    }
  }
}

template <typename T, int kSites, int kQuads, int kThreads>
__global__ __launch_bounds__(kThreads, 1) void routing_read_finished_kernel(
    const __grid_constant__ FinishedArguments<T> a, int64_t n_tokens, int d) {
  DR_DYNAMIC_SHARED(float, shared);
  Block<T, kSites, kQuads> block(a.count, d, shared);
  const TokenRange range = chunk_tokens(n_tokens, gridDim.x, blockIdx.x);
  start_chunk(a, range.begin, block);
  for (int64_t token = range.begin; token < range.end; ++token) {
    for_steps<kSources<T>>(a.count,
                           [&]<int kCount>(int first) { find_products_of<kCount>(a, token, first, block); });
    __syncthreads();
    if (token + 1 < range.end) block.load_ahead(a, token + 1);
    if (block.warp == 0) find_weights(a, token, block);
    __syncthreads();
    write_partials(a, token, block);
  }
}

template <typename T>
FinishedArguments<T> finished_arguments(std::span<const RoutingSite> sites) {
  FinishedArguments<T> a{};
  a.sites = static_cast<int>(sites.size());
  a.n = static_cast<int>(sites[0].sources.size());
  for (size_t g = 0; g < sites.size(); ++g) {
    const RoutingSite& site = sites[g];
    a.site[g] = {.query = pointer<float>(site.query),
                 .key_norm = pointer<float>(site.key_norm),
                 .key_eps = site.key_eps,
                 .weights = pointer<float>(site.weights),
                 .inv_rms = pointer<float>(site.inv_rms),
                 .dots = pointer<float>(site.dots),
                 .partial = pointer<T>(site.partial),
                 .lse = pointer<float>(site.partial_lse)};
  }
  a.altered = is_altered(sites[0]);
  for (size_t j = 0; j + 1 < sites[0].sources.size(); ++j) {
    if (sites[0].drops(j)) {
      a.dropped |= uint64_t{1} << j;
      continue;
    }
    const int s = a.count++;
    a.source[s] = pointer<T>(sites[0].sources[j]);
    a.place[s] = static_cast<uint8_t>(j);
    a.bias[s] = sites[0].offset_of(j);
    a.scale[s] = sites[0].scale_of(j);
  }
  return a;
}

/// One launch.
void read_finished(Stream stream, std::span<const RoutingSite> sites) {
  const int64_t n_tokens = sites[0].partial.rows();
  const int d = static_cast<int>(sites[0].partial.cols());
  const GroupShape shape = group_shape(d);
  with_activation_type(sites[0].partial.dtype, [&]<typename T>() {
    const auto kernel = shape.sites == 8       ? routing_read_finished_kernel<T, 8, 1, 512>
                        : shape.sites == 4     ? routing_read_finished_kernel<T, 4, 2, 512>
                        : shape.threads <= 512 ? routing_read_finished_kernel<T, 1, 8, 512>
                                               : routing_read_finished_kernel<T, 1, 8, 1024>;
    const FinishedArguments<T> arguments = finished_arguments<T>(sites);
    const Layout layout(kSources<T>, shape.sites, arguments.count, shape.threads);
    launch(kernel, dim3(static_cast<unsigned>(routing_chunks(n_tokens))),
           dim3(static_cast<unsigned>(shape.threads)), static_cast<size_t>(layout.total) * sizeof(float),
           handle(stream), arguments, n_tokens, d);
  });
}

}  // namespace

void routing_read_finished(Stream stream, std::span<const RoutingSite> sites) {
  if (sites[0].partial.rows() == 0) return;
  DR_CHECK(sites[0].sources.size() <= kMaxSources);
  for (size_t first = 0, count = 0; first < sites.size(); first += count) {
    count = sites_of_launch(sites.subspan(first), sites[0].partial.cols(), is_altered);
    read_finished(stream, sites.subspan(first, count));
  }
}

}  // namespace depthroute::cuda
