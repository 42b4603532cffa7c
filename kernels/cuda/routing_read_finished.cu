// Depth routing, forward, first of two phases: what up to 8 sites read from the finished blocks that they
// share. For every site, over the sources j < n-1:
//
//   r_j = 1/sqrt(mean(V_j^2) + key_eps);  c_j = u . V_j;  a = softmax(r_j c_j + offset_j)
//   partial = sum_j scale_j a_j V_j;  lse = log sum_j exp(r_j c_j + offset_j)
//
// A block takes a chunk of the tokens, one token at a time with all its threads. A thread owns kQuads quads of
// the row, and keeps u of every site for them in registers: kSites * kQuads = 8 quads. Per token:
//   a. find_products: reads the sources, kSources at a time. Gives the squares of each, and the products of
//      each with every site's u, summed over each warp and left in shared memory. The first sources were
//      loaded before the token before was mixed, so that their latency is hidden.
//   b. find_weights: after a barrier, one warp per site and one lane per source. Gives the weights.
//   c. write_partials: after a barrier, reads the sources again, from L1 or L2, and writes the partial mixes.
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

/// Sources of a step of phases a and c.
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
  int count;     // n - 1
  FinishedSite<T> site[kMaxGroupSites];
  const T* source[kMaxSources];  // [N,D]; nullptr: dropped
  bool altered;                  // there are offsets or scales; then there is one site
  float bias[kMaxSources], scale[kMaxSources];
};

/// Shared memory, in floats. Sources are padded to whole steps.
struct Layout {
  int padded;   // sources, rounded up to a multiple of a step's
  int warps;    // of the block
  int squares;  // [warps][padded]
  int dots;     // [warps][padded][sites]
  int factors;  // [padded][sites]: scale_j a_j
  int total;

  __host__ __device__ Layout(int step, int sites, int count, int threads) {
    padded = (count + step - 1) / step * step;
    warps = threads / kWarp;
    factors = 0;
    squares = padded * sites;
    dots = squares + warps * padded;
    total = dots + warps * padded * sites;
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
  /// Loads the q-th quad of sources first ... first + kSources - 1, all of them before any is used.
  __device__ __forceinline__ void load(const FinishedArguments<T>& a, int first, int q, int64_t token,
                                       RawQuad<T> (&raw)[kSources<T>]) const {
    const int64_t from = token * d + column(q);
#pragma unroll
    for (int k = 0; k < kSources<T>; ++k) {
      const T* const source = first + k < a.count ? a.source[first + k] : nullptr;
      raw[k] = source && column(q) < d ? load_raw_quad(source + from) : RawQuad<T>{};
    }
  }
};

/// Before the chunk's first token: u, and the first token's first sources.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void start_chunk(const FinishedArguments<T>& a, int64_t token,
                                            Block<T, kSites, kQuads>& block) {
  block.load(a, 0, 0, token, block.ahead);
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

/// Phase a.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_products(const FinishedArguments<T>& a, int64_t token,
                                              const Block<T, kSites, kQuads>& block) {
  float* const squares = block.shared + block.at.squares + block.warp * block.at.padded;
  float* const dots = block.shared + block.at.dots + block.warp * block.at.padded * kSites;
  for (int first = 0; first < a.count; first += kSources<T>) {
    float square[kSources<T>] = {}, with_u[kSources<T> * kSites] = {};
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      RawQuad<T> raw[kSources<T>];
      if (first == 0 && q == 0) {
#pragma unroll
        for (int k = 0; k < kSources<T>; ++k) raw[k] = block.ahead[k];
      } else {
        block.load(a, first, q, token, raw);
      }
#pragma unroll
      for (int k = 0; k < kSources<T>; ++k) {
        const Quad v = unpack(raw[k]);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) square[k] += v.x[e] * v.x[e];
#pragma unroll
        for (int g = 0; g < kSites; ++g)
#pragma unroll
          for (int e = 0; e < kQuad; ++e) with_u[k * kSites + g] += v.x[e] * block.u[g][q][e];
      }
    }
    const float square_total = warp_sum_spread(square);
    if (block.lane < kSources<T>) squares[first + spread_index<kSources<T>>(block.lane)] = square_total;
    constexpr int kPairs = kSources<T> * kSites;
    const float total = warp_sum_spread(with_u);
    if (block.lane < kPairs) dots[first * kSites + spread_index<kPairs>(block.lane)] = total;
  }
}

/// Phase b. One warp per site; its lanes take the sources `lane` and `lane + 32`.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_weights(const FinishedArguments<T>& a, int64_t token,
                                             const Block<T, kSites, kQuads>& block) {
  const auto total_of = [&](int begin, int stride) {
    float total = 0;
    for (int w = 0; w < block.at.warps; ++w) total += block.shared[begin + w * stride];
    return total;
  };
  for (int g = block.warp; g < a.sites; g += block.at.warps) {
    const FinishedSite<T>& site = a.site[g];
    float logit[2], exponential[2], largest = -INFINITY, total = 0;
    bool reads[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = block.lane + half * kWarp;
      logit[half] = exponential[half] = 0;
      reads[half] = j < a.count && a.source[j];
      if (j >= a.count) continue;
      float inv_rms = 0, dot = 0;
      if (reads[half] && site.query) {
        const float squares = total_of(block.at.squares + j, block.at.padded);
        inv_rms = rsqrtf(squares / static_cast<float>(block.d) + site.key_eps);
        dot = total_of(block.at.dots + j * kSites + g, block.at.padded * kSites);
      }
      site.inv_rms[token * a.n + j] = inv_rms;
      site.dots[token * a.n + j] = dot;
      logit[half] = inv_rms * dot;
      if (a.altered) logit[half] += a.bias[j];
      if (reads[half]) largest = fmaxf(largest, logit[half]);
    }
    largest = warp_max(largest);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (reads[half]) total += exponential[half] = expf(logit[half] - largest);
    total = warp_sum(total);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = block.lane + half * kWarp;
      if (j >= block.at.padded) continue;
      const float weight = reads[half] ? exponential[half] / total : 0.0f;
      block.shared[block.at.factors + j * kSites + g] =
          a.altered && j < a.count ? a.scale[j] * weight : weight;
      if (j < a.count) site.weights[token * a.n + j] = weight;
    }
    if (block.lane == 0) site.lse[token] = largest + logf(total);  // all dropped: -inf
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
  for (int first = 0; first < a.count; first += kSources<T>) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      RawQuad<T> raw[kSources<T>];
      block.load(a, first, q, token, raw);
#pragma unroll
      for (int k = 0; k < kSources<T>; ++k) {
        const float* const factors = block.shared + block.at.factors + (first + k) * kSites;
        const Quad v = unpack(raw[k]);
#pragma unroll
        for (int g = 0; g < kSites; ++g)
#pragma unroll
          for (int e = 0; e < kQuad; ++e) h[g][q][e] += factors[g] * v.x[e];
      }
    }
  }
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
    if (g >= a.sites) continue;
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      if (block.column(q) >= block.d) continue;
      Quad mix;
#pragma unroll
      for (int e = 0; e < kQuad; ++e) mix.x[e] = h[g][q][e];
      store_quad(a.site[g].partial + token * block.d + block.column(q), mix);
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
    find_products(a, token, block);
    __syncthreads();
    if (token + 1 < range.end) block.load(a, 0, 0, token + 1, block.ahead);
    find_weights(a, token, block);
    __syncthreads();
    write_partials(a, token, block);
  }
}

template <typename T>
FinishedArguments<T> finished_arguments(std::span<const RoutingSite> sites) {
  FinishedArguments<T> a{};
  a.sites = static_cast<int>(sites.size());
  a.n = static_cast<int>(sites[0].sources.size());
  a.count = a.n - 1;
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
    a.source[j] = sites[0].drops(j) ? nullptr : pointer<T>(sites[0].sources[j]);
    a.bias[j] = sites[0].offset_of(j);
    a.scale[j] = sites[0].scale_of(j);
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
