// Depth routing, backward, second part: what a block does, phase by phase. The kernel is in
// routing_backward_shared.cu.
//
// With V_n the last source of each site and e_j = scale_j dh . V_j - scale_n dh . V_n, for every site:
//
//   dlogit_j = a_j (e_j - sum_i a_i e_i);  dV_j += scale_j a_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j)
//   du = sum over tokens of sum_j dlogit_j r_j V_j  (V_n included);  dbias = sum over tokens of dlogit_n
//
// A block takes a chunk of the tokens, one token at a time with all its threads. A
// thread owns kQuads quads of the row, of every site and source. It keeps each site's
// dh (of this token) and du (of the chunk) for them in registers: kSites * kQuads = 8
// quads of each, which is what limits how many sites share a pass. Per token:
//   a. find_dh: reads doutput, output and V_n of all sites, in bf16 with all loads in flight at once. Gives dh, and
//      dh . (C - V_n) with C the last source of the first site.
//   b. find_products: reads the sources, at most kSources at a time. Gives dh . (V_j - C) of all pairs, summed over
//      each warp and left in shared memory. C is near all sources and drops out of e_j: sources that are nearly
//      equal lose nothing, and V_j - C is computed once for all sites.
//   c. find_factors: after a barrier, one warp, a lane per site and part of the sources. Gives e_j, dlogit_j (the last
//      as minus the sum of the others, so that they add up to 0) and the factors that phase d needs.
//   d. add_gradients: after a barrier, reads the sources again, from L1 or L2. Adds to their gradients, each
//      read and written once in float32, and to du.
// u of all sites stays in shared memory. du would also be a matrix product, but that would read the sources a
// third time.
//
// The instructions of phases b and d limit the speed (kernels/cost/routing.cpp counts them), so: what is the same for
// all threads is computed by one warp; a last step of two sources has a version of its own; and in phase b, lanes take
// sources in such an order that the sums over the warp need no selections (warp_sum_spread).
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"

namespace depthroute::cuda::backward_shared {

inline constexpr int kSources = 4;  // of a step of phases b and d, but for the last step

template <typename T>
struct SharedSite {
  const T *doutput, *output;
  const T* current;                       // V_n; where it is dropped, and may hold anything, the output
  const float* inverse_norm;              // [D]
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
  SharedSite<T> site[kMaxGroupSites];
  const T* source[kMaxSources];
  T* dsource[kMaxSources];
  uint8_t place[kMaxSources];  // among the sites' sources
  uint64_t reads;  // bit s: the gradient of source s is added to; otherwise what it holds is not read
  uint64_t
      repeated;  // bit s: an earlier source has the same gradient, which is read once that has been stored
  bool scaled;   // then there is one site
  float scale[kMaxSources];  // by place
};

/// Shared memory, in floats. Sources are padded to whole steps.
struct Layout {
  int padded;  // sources, rounded up to a multiple of kSources
  int warps;   // of the block
  int u;       // [sites][D]
  int dots;    // [warps][stride]: [padded][sites] dh . (V_j - C), then per site dh . (C - V_n), then dh . V_n
  int stride;  // from one warp's dots to the next
  int to_dh;   // [padded / kSources][sites][kSources], like to_u
  int to_u;
  int to_v;          // [padded], over all sites
  int current_to_u;  // [sites]
  int dbias;         // [sites]
  int places;        // [padded] int
  int sources;       // [padded] int64: elements from the first source; beyond the last source, as far as that
  int traces;  // [3][sites] int64: floats from the first site's weights to each site's weights, inv_rms, dots
  int total;

  __host__ __device__ Layout(int sites, int count, int threads, int d) {
    constexpr int kOffset = sizeof(int64_t) / sizeof(float);
    const auto aligned = [](int floats) { return (floats + 3) / 4 * 4; };
    padded = (count + kSources - 1) / kSources * kSources;
    warps = threads / kWarp;
    u = 0;
    dots = u + sites * d;
    stride = (padded + 1) * sites + 1;
    to_dh = dots + aligned(warps * stride);
    to_u = to_dh + padded * sites;
    to_v = to_u + padded * sites;
    current_to_u = to_v + padded;
    dbias = current_to_u + sites;
    places = dbias + sites;
    sources = places + padded + aligned(2 * sites) - 2 * sites;
    traces = sources + kOffset * padded;
    total = traces + kOffset * 3 * sites;
  }
};

/// What phase c reads from memory of one site and source; fetched early for a lane's first two sources.
struct Saved {
  float weight = 0, inv_rms = 0, dot = 0;
};

/// One thread's view of its block.
struct Block {
  int d, thread, threads, lane, warp;
  Layout at;
  float* shared;

  __device__ __forceinline__ Block(int sites, int count, int columns, float* shared_memory)
      : d(columns),
        thread(static_cast<int>(threadIdx.x)),
        threads(static_cast<int>(blockDim.x)),
        lane(thread % kWarp),
        warp(thread / kWarp),
        at(sites, count, threads, columns),
        shared(shared_memory) {}

  /// First column of the thread's q-th quad, and whether it is inside the row.
  __device__ __forceinline__ int column(int q) const { return (q * threads + thread) * kQuad; }
  __device__ __forceinline__ bool inside(int q) const { return column(q) < d; }
  /// The same, or the row's first: from where a thread outside reads what it does not use.
  __device__ __forceinline__ int readable_column(int q) const { return inside(q) ? column(q) : 0; }
  // Tables in shared memory. Not of pointers: accesses through those would not be known to be to global memory.
  __device__ __forceinline__ int64_t& source(int s) const {
    return reinterpret_cast<int64_t*>(shared + at.sources)[s];
  }
  template <int kSites>
  __device__ __forceinline__ int64_t& trace(int which, int site) const {
    return reinterpret_cast<int64_t*>(shared + at.traces)[which * kSites + site];
  }
  __device__ __forceinline__ int& place(int s) const { return reinterpret_cast<int*>(shared + at.places)[s]; }
};

/// What one thread keeps in registers.
template <typename T, int kSites, int kQuads>
struct Registers {
  float du[kSites][kQuads][kQuad];  // of the chunk
  float dh[kSites][kQuads][kQuad];  // of the token; 0 outside the row
  RawQuad<T> common[kQuads];        // C of the token
  float norms;  // of the token, see load_norms(); loaded while the token before is worked on
};

/// Before the chunk's first token: u and tables to shared memory, all sums 0.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void start_chunk(const SharedArguments<T>& a, const Block& block,
                                            Registers<T, kSites, kQuads>& mine) {
#pragma unroll
  for (int g = 0; g < kSites; ++g) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = block.column(q);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) mine.du[g][q][e] = 0;
      if (c >= block.d) continue;
      Quad u = {};
      if (g < a.sites && a.site[g].query) {
        u = load_quad(a.site[g].query + c);
        const Quad key_norm = load_quad(a.site[g].key_norm + c);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) u.x[e] *= key_norm.x[e];
      }
      store_quad(block.shared + block.at.u + g * block.d + c, u);
    }
  }
  for (int s = block.thread; s < block.at.padded; s += block.threads) {
    block.source(s) = elements_between(a.source[0], a.source[min(s, a.count - 1)]);
    block.place(s) = a.place[min(s, a.count - 1)];
  }
  for (int g = block.thread; g < a.sites; g += block.threads) {
    const float* const from = a.site[0].weights;
    block.trace<kSites>(0, g) = elements_between(from, a.site[g].weights);
    block.trace<kSites>(1, g) = elements_between(from, a.site[g].inv_rms);
    block.trace<kSites>(2, g) = elements_between(from, a.site[g].dots);
  }
  if (block.thread < kSites) block.shared[block.at.dbias + block.thread] = 0;
  __syncthreads();
}

/// The rstd of site g in lane g, its projection in lane kSites + g.
template <bool kFull, int kSites, typename T>
__device__ __forceinline__ float load_norms(const SharedArguments<T>& a, const Block& block, int64_t token) {
  const int g = block.lane % kSites;
  if (block.lane >= 2 * kSites || (!kFull && g >= a.sites)) return 0;
  return (block.lane < kSites ? a.site[g].rstd : a.site[g].projection)[token];
}

/// An element of a site's weights (0), inv_rms (1) or dots (2).
template <int kSites, typename T>
__device__ __forceinline__ float load_trace(const SharedArguments<T>& a, const Block& block, int which,
                                            int site, int64_t at) {
  return a.site[0].weights[block.trace<kSites>(which, site) + at];
}

/// Of the lane's i-th source; 0 beyond the sources and sites.
template <int kSites, typename T>
__device__ __forceinline__ Saved load_saved(const SharedArguments<T>& a, const Block& block, int64_t token,
                                            int i) {
  const SiteLane<kSites> lane(block.lane);
  const int j = lane.part + i * lane.kParts;
  if (lane.site >= a.sites || j >= a.count) return {};
  const int64_t at = token * a.n + block.place(j);
  return {load_trace<kSites>(a, block, 0, lane.site, at), load_trace<kSites>(a, block, 1, lane.site, at),
          load_trace<kSites>(a, block, 2, lane.site, at)};
}

/// Phase a. dh of all sites, and its products with C - V_n. Issues the loads of kAtOnce sites before it uses
/// the first: they come from memory, and one after another each site would wait for them in turn.
template <bool kFull, typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_dh(const SharedArguments<T>& a, const Block& block, int64_t token,
                                        Registers<T, kSites, kQuads>& mine) {
  constexpr int kAtOnce = sizeof(T) == 2 || kSites < 4 ? kSites : 1;  // by registers
  const bool scaled = (kSites == 1 || !kFull) && a.scaled;
  float with_current[kSites] = {};  // dh . (C - V_n)
  float with_last = 0;              // dh . V_n of the only site, with scales
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int c = block.readable_column(q);
    const int64_t from = token * block.d + c;
#pragma unroll
    for (int first = 0; first < kSites; first += kAtOnce) {
      RawQuad<T> doutput[kAtOnce], output[kAtOnce], current[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const SharedSite<T>& site = a.site[first + i];
        const bool reads = kFull || first + i < a.sites;
        doutput[i] = reads ? load_raw_quad(site.doutput + from) : RawQuad<T>{};
        output[i] = reads ? load_raw_quad(site.output + from) : RawQuad<T>{};
        current[i] = reads ? load_raw_quad(site.current + from) : RawQuad<T>{};
      }
      __syncwarp();  // keeps the compiler from moving loads behind uses
      if (first == 0) mine.common[q] = current[0];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int g = first + i;
        const float shared_rstd = __shfl_sync(kFullWarp, mine.norms, g);
        const float rstd = block.inside(q) ? shared_rstd : 0.0f;
        const float p = __shfl_sync(kFullWarp, mine.norms, kSites + g);
        const Quad dy = unpack(doutput[i]), y = unpack(output[i]);
        const Quad w = kFull || g < a.sites ? load_quad(a.site[g].norm_weight + c) : Quad{};
        const Quad inverse = kFull || g < a.sites ? load_quad(a.site[g].inverse_norm + c) : Quad{};
        // rstd (g - p h), and rstd h is y / w. 0 outside the row.
        const float through_norm = block.inside(q) ? p : 0.0f;
#pragma unroll
        for (int e = 0; e < kQuad; ++e)
          mine.dh[g][q][e] = rstd * (dy.x[e] * w.x[e]) - through_norm * (y.x[e] * inverse.x[e]);
        const Quad near = unpack(mine.common[q]), v = unpack(current[i]);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) with_current[g] += mine.dh[g][q][e] * (near.x[e] - v.x[e]);
        if (g == 0 && scaled) {
#pragma unroll
          for (int e = 0; e < kQuad; ++e) with_last += mine.dh[g][q][e] * v.x[e];
        }
      }
    }
  }
  float* const sums = block.shared + block.at.dots + block.warp * block.at.stride + block.at.padded * kSites;
  // In the order of phase b, so that e_j of a source that equals V_n is exactly 0.
  const float total = warp_sum_groups<1, kSites>(with_current);
  if (const int g = group_index<1, kSites>(block.lane); g >= 0) sums[g] = total;
  if (scaled) {
    with_last = warp_sum(with_last);
    if (block.lane == 0) sums[kSites] = with_last;
  }
}

/// Phase b for kCount sources from `first` on: the products dh . (V_j - C) with all sites.
template <int kCount, typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_products_of(const SharedArguments<T>& a, const Block& block, int64_t row,
                                                 int first, const Registers<T, kSites, kQuads>& mine) {
  float with_dh[kCount * kSites] = {};
  const int own = own_group<kCount>(block.lane);
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int64_t from = row + block.readable_column(q);
    RawQuad<T> raw[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      raw[k] = load_raw_quad(a.source[0] + block.source(first + (k ^ own)) + from);
    const Quad near = unpack(mine.common[q]);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      Quad v = unpack(raw[k]);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) v.x[e] -= near.x[e];
#pragma unroll
      for (int g = 0; g < kSites; ++g)
#pragma unroll
        for (int e = 0; e < kQuad; ++e) with_dh[k * kSites + g] += mine.dh[g][q][e] * v.x[e];
    }
  }
  const float total = warp_sum_groups<kCount, kSites>(with_dh);
  float* const dots = block.shared + block.at.dots + block.warp * block.at.stride + first * kSites;
  if (const int pair = group_index<kCount, kSites>(block.lane); pair >= 0) dots[pair] = total;
}

/// Phase c. Turns the products into dlogits and the factors of phase d. Most of it is the same for all columns, so one
/// warp does it.
template <typename T, int kSites>
__device__ __forceinline__ void find_factors(const SharedArguments<T>& a, const Block& block, int64_t token,
                                             const Saved& first_saved, const Saved& second_saved) {
  const SiteLane<kSites> lane(block.lane);
  constexpr int kParts = SiteLane<kSites>::kParts;
  const int g = lane.site, padded = block.at.padded;
  const int64_t saved_row = token * a.n;
  const auto total_of = [&](int pair) {
    float total = 0;
#pragma unroll 4
    for (int w = 0; w < block.at.warps; ++w)
      total += block.shared[block.at.dots + w * block.at.stride + pair];
    return total;
  };
  const auto place_of = [&](int j) { return (j / kSources * kSites + g) * kSources + j % kSources; };
  const auto scale_of = [&](int j) { return a.scaled ? a.scale[block.place(j)] : 1.0f; };
  const float to_common = total_of(padded * kSites + g);
  const float with_last = a.scaled ? total_of((padded + 1) * kSites) : 0.0f;
  const float last_scale = a.scaled ? a.scale[a.n - 1] : 1.0f;

  float mean = 0, others = 0;
  const auto find_e = [&](int j, const Saved& saved) {
    if (saved.weight == 0.0f) return 0.0f;  // the source may be anything
    const float scale = scale_of(j);
    const float e = scale * (total_of(j * kSites + g) + to_common) + (scale - last_scale) * with_last;
    mean += saved.weight * e;
    return e;
  };
  const auto store_factors = [&](int j, const Saved& saved, float e) {
    const float dlogit = saved.weight * (e - mean), to_u = dlogit * saved.inv_rms;
    others += dlogit;
    const float to_v =
        lane.sum_of_sites(to_u * (saved.inv_rms * saved.inv_rms * saved.dot / static_cast<float>(block.d)));
    if (j >= padded) return;
    block.shared[block.at.to_dh + place_of(j)] = scale_of(j) * saved.weight;
    block.shared[block.at.to_u + place_of(j)] = to_u;
    if (g == 0) block.shared[block.at.to_v + j] = to_v;
    if (j >= a.count || g >= a.sites) return;
    if (a.site[g].dlogits) a.site[g].dlogits[saved_row + block.place(j)] = dlogit;
  };

  const float first = find_e(lane.part, first_saved), second = find_e(lane.part + kParts, second_saved);
#pragma unroll 1
  for (int i = 2; i * kParts < a.count; ++i) {
    const int j = lane.part + i * kParts;
    const float e = find_e(j, load_saved<kSites>(a, block, token, i));
    if (j < padded) block.shared[block.at.to_u + place_of(j)] = e;  // until the mean is known
  }
  mean = lane.sum_of_parts(mean);
  store_factors(lane.part, first_saved, first);
  if (kParts < padded) store_factors(lane.part + kParts, second_saved, second);
#pragma unroll 1
  for (int i = 2; i * kParts < padded; ++i) {
    const int j = lane.part + i * kParts;
    const float e = j < padded ? block.shared[block.at.to_u + place_of(j)] : 0.0f;
    store_factors(j, load_saved<kSites>(a, block, token, i), e);
  }
  others = lane.sum_of_parts(others);
  if (lane.part == 0 && g < a.sites) {
    const int64_t last = saved_row + a.n - 1;
    // Not -a_n mean: du is a difference of terms that must cancel. With a weight of 0, exactly 0.
    const float dlogit = load_trace<kSites>(a, block, 0, g, last) == 0.0f ? 0.0f : -others;
    block.shared[block.at.current_to_u + g] = dlogit * load_trace<kSites>(a, block, 1, g, last);
    block.shared[block.at.dbias + g] += dlogit;
    if (a.site[g].dlogits) a.site[g].dlogits[last] = dlogit;
  }
}

/// Phase d, the current states' part of du.
template <bool kFull, typename T, int kSites, int kQuads>
__device__ __forceinline__ void add_current(const SharedArguments<T>& a, const Block& block, int64_t row,
                                            Registers<T, kSites, kQuads>& mine) {
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int64_t from = row + block.readable_column(q);
    RawQuad<T> current[kSites];
#pragma unroll
    for (int g = 0; g < kSites; ++g)
      current[g] = kFull || g < a.sites ? load_raw_quad(a.site[g].current + from) : RawQuad<T>{};
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      if (!kFull && g >= a.sites) continue;
      const float to_u = block.shared[block.at.current_to_u + g];
      const Quad v = unpack(current[g]);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) mine.du[g][q][e] = fmaf(to_u, v.x[e], mine.du[g][q][e]);
    }
  }
}

/// Phase d for kCount sources from `first` on. Adds to their gradients, and to du.
template <int kCount, bool kFull, typename T, int kSites, int kQuads>
__device__ __forceinline__ void add_gradients_of(const SharedArguments<T>& a, const Block& block, int64_t row,
                                                 int first, Registers<T, kSites, kQuads>& mine) {
  const auto reads = static_cast<uint32_t>(a.reads >> first);
  const auto repeated = static_cast<uint32_t>(a.repeated >> first);
  const Quad to_v = load_quad(block.shared + block.at.to_v + first);
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int c = block.column(q);
    if (c >= block.d) continue;
    const int64_t from = row + c;
    RawQuad<T> raw[kCount], before[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      raw[k] = load_raw_quad(a.source[min(first + k, a.count - 1)] + from);
      before[k] = (reads >> k & 1) != 0 ? load_raw_quad(a.dsource[first + k] + from) : RawQuad<T>{};
    }
    Quad v[kCount], dv[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      v[k] = unpack(raw[k]);
      dv[k] = unpack(before[k]);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) dv[k].x[e] = fmaf(-to_v.x[k], v[k].x[e], dv[k].x[e]);
    }
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      if (!kFull && g >= a.sites) continue;
      const int place = (first / kSources * kSites + g) * kSources;
      const Quad to_dh = load_quad(block.shared + block.at.to_dh + place);
      const Quad to_u = load_quad(block.shared + block.at.to_u + place);
      const Quad u = load_quad(block.shared + block.at.u + g * block.d + c);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
#pragma unroll
        for (int e = 0; e < kQuad; ++e) {
          dv[k].x[e] = fmaf(to_dh.x[k], mine.dh[g][q][e], dv[k].x[e]);
          dv[k].x[e] = fmaf(to_u.x[k], u.x[e], dv[k].x[e]);
          mine.du[g][q][e] = fmaf(to_u.x[k], v[k].x[e], mine.du[g][q][e]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if (first + k >= a.count) continue;
      T* const to = a.dsource[first + k] + from;
      if ((repeated >> k & 1) != 0) {
        const Quad stored = load_quad(to);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) dv[k].x[e] += stored.x[e];
      }
      store_quad(to, dv[k]);
    }
  }
}

}  // namespace depthroute::cuda::backward_shared
