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
//   a. find_dh: reads doutput, h and V_n of all sites, in bf16 with all loads in flight at once. Gives dh, and
//      dh . (C - V_n) with C the mix of the first site.
//   b. find_products: reads the sources, kSources at a time. Gives dh . (V_j - C) of all pairs, summed over
//      each warp and left in shared memory. C is near all sources and drops out of e_j, whatever was rounded
//      in it: sources that are nearly equal lose nothing, and V_j - C is computed once for all sites.
//   c. find_factors: after a barrier, one warp per site and one lane per source. Gives e_j, dlogit_j (the last as
//      minus the sum of the others, so that they add up to 0) and the factors that phase d needs.
//   d. add_gradients: after a barrier, reads the sources again, from L1 or L2. Adds to their gradients, each
//      read and written once in float32, and to du.
// u of all sites stays in shared memory. du would also be a matrix product, but that would read the sources a
// third time.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"

namespace depthroute::cuda::backward_shared {

inline constexpr int kSources = 4;  // of a step of phases b and d

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
  SharedSite<T> site[kMaxGroupSites];
  const T* source[kMaxSources];
  T* dsource[kMaxSources];
  uint8_t place[kMaxSources];  // among the sites' sources
  bool repeated[kMaxSources];  // an earlier source has the same gradient
  bool starts[kMaxSources];    // the gradient is written; what it holds is not read
  bool scaled;                 // then there is one site
  float scale[kMaxSources];    // by place
};

/// Shared memory, in floats. Sources are padded to whole chunks.
struct Layout {
  int padded;  // sources, rounded up to a multiple of kSources
  int warps;   // of the block
  int u;       // [sites][D]
  int dots;    // [warps][stride]: [padded][sites] dh . (V_j - C), then per site dh . (C - V_n), dh . V_n
  int stride;  // from one warp's dots to the next
  int to_dh;   // [padded / kSources][sites][kSources], like to_u and to_v
  int to_u, to_v;
  int current_to_u;  // [sites]
  int dbias;         // [sites]
  int total;

  __host__ __device__ Layout(int sites, int count, int threads, int d) {
    padded = (count + kSources - 1) / kSources * kSources;
    warps = threads / kWarp;
    u = 0;
    dots = u + sites * d;
    stride = (padded + 2) * sites;
    to_dh = dots + (warps * stride + 3) / 4 * 4;
    to_u = to_dh + padded * sites;
    to_v = to_u + padded * sites;
    current_to_u = to_v + padded * sites;
    dbias = current_to_u + sites;
    total = dbias + sites;
  }
};

/// What phase c reads from memory of one site and source; fetched early for a warp's first site and sources.
struct Saved {
  float weight = 0, inv_rms = 0, dot = 0;
};
template <typename T>
__device__ __forceinline__ Saved load_saved(const SharedSite<T>& site, int64_t at) {
  return {site.weights[at], site.inv_rms[at], site.dots[at]};
}

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

  /// First column of the thread's q-th quad.
  __device__ __forceinline__ int column(int q) const { return (q * threads + thread) * kQuad; }
};

/// What one thread keeps in registers.
template <typename T, int kSites, int kQuads>
struct Registers {
  float du[kSites][kQuads][kQuad];  // of the chunk
  float dh[kSites][kQuads][kQuad];  // of the token
  RawQuad<T> common[kQuads];        // C of the token
  float norms;  // of the token, see load_norms(); loaded while the token before is worked on
};

/// Before the chunk's first token: u to shared memory, all sums 0.
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
  if (block.thread < kSites) block.shared[block.at.dbias + block.thread] = 0;
}

/// The rstd of site g in lane g, its projection in lane kSites + g.
template <bool kFull, int kSites, typename T>
__device__ __forceinline__ float load_norms(const SharedArguments<T>& a, const Block& block, int64_t token) {
  const int g = block.lane % kSites;
  if (block.lane >= 2 * kSites || (!kFull && g >= a.sites)) return 0;
  return (block.lane < kSites ? a.site[g].rstd : a.site[g].projection)[token];
}

/// Phase a. dh of all sites, and its products with C - V_n. Issues the loads of kAtOnce sites before it uses
/// the first: they come from memory, and one after another each site would wait for them in turn.
template <bool kFull, typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_dh(const SharedArguments<T>& a, const Block& block, int64_t token,
                                        Registers<T, kSites, kQuads>& mine) {
  constexpr int kAtOnce = sizeof(T) == 2 || kSites < 4 ? kSites : 1;  // by registers
  const int64_t row = token * block.d;
  float with_current[2 * kSites] = {};  // dh . (C - V_n) of all sites; dh . V_n of the only one with scales
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int c = block.column(q);
#pragma unroll
    for (int first = 0; first < kSites; first += kAtOnce) {
      RawQuad<T> doutput[kAtOnce], mix[kAtOnce], current[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const SharedSite<T>& site = a.site[first + i];
        const bool inside = (kFull || first + i < a.sites) && c < block.d;
        doutput[i] = inside ? load_raw_quad(site.doutput + row + c) : RawQuad<T>{};
        mix[i] = inside ? load_raw_quad(site.mix + row + c) : RawQuad<T>{};
        current[i] = inside ? load_raw_quad(site.current + row + c) : RawQuad<T>{};
      }
      __syncwarp();  // keeps the compiler from moving loads behind uses
      if (first == 0) mine.common[q] = mix[0];
      const Quad near = unpack(mine.common[q]);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int g = first + i;
        const float rstd = __shfl_sync(kFullWarp, mine.norms, g);
        const float p = __shfl_sync(kFullWarp, mine.norms, kSites + g);
        const Quad dy = unpack(doutput[i]), h = unpack(mix[i]), v = unpack(current[i]);
        const bool inside = (kFull || g < a.sites) && c < block.d;
        const Quad w = inside ? load_quad(a.site[g].norm_weight + c) : Quad{};
#pragma unroll
        for (int e = 0; e < kQuad; ++e) {
          mine.dh[g][q][e] = rstd * (dy.x[e] * w.x[e] - p * h.x[e]);
          with_current[g] += mine.dh[g][q][e] * (near.x[e] - v.x[e]);
          if (g == 0) with_current[kSites] += mine.dh[g][q][e] * v.x[e];
        }
      }
    }
  }
  float* dots = block.shared + block.at.dots + block.warp * block.at.stride;
  const float total = warp_sum_spread(with_current);
  if (block.lane < 2 * kSites) dots[block.at.padded * kSites + spread_index<2 * kSites>(block.lane)] = total;
}

/// Phase b. The products dh . (V_j - C) of all pairs of sites and sources.
template <typename T, int kSites, int kQuads>
__device__ __forceinline__ void find_products(const SharedArguments<T>& a, const Block& block, int64_t token,
                                              const Registers<T, kSites, kQuads>& mine) {
  const int64_t row = token * block.d;
  float* dots = block.shared + block.at.dots + block.warp * block.at.stride;
  for (int first = 0; first < a.count; first += kSources) {
    float with_dh[kSources * kSites] = {};
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = block.column(q);
      RawQuad<T> raw[kSources];
#pragma unroll
      for (int k = 0; k < kSources; ++k)
        raw[k] =
            first + k < a.count && c < block.d ? load_raw_quad(a.source[first + k] + row + c) : RawQuad<T>{};
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        Quad v = unpack(raw[k]);
        const Quad near = unpack(mine.common[q]);
#pragma unroll
        for (int e = 0; e < kQuad; ++e) v.x[e] -= near.x[e];
#pragma unroll
        for (int g = 0; g < kSites; ++g)
#pragma unroll
          for (int e = 0; e < kQuad; ++e) with_dh[k * kSites + g] += mine.dh[g][q][e] * v.x[e];
      }
    }
    const float total = warp_sum_spread(with_dh);
    constexpr int kPairs = kSources * kSites;
    if (block.lane < kPairs) dots[first * kSites + spread_index<kPairs>(block.lane)] = total;
  }
}

/// Phase c. Turns the products into dlogits and the factors of phase d. One warp per site; its lanes take the
/// sources `lane` and `lane + 32`.
template <typename T, int kSites>
__device__ __forceinline__ void find_factors(const SharedArguments<T>& a, const Block& block, int64_t token,
                                             const Saved& first_saved) {
  const int64_t saved_row = token * a.n;
  const auto total_of = [&](int pair) {
    float total = 0;
    for (int w = 0; w < block.at.warps; ++w)
      total += block.shared[block.at.dots + w * block.at.stride + pair];
    return total;
  };
  for (int g = block.warp; g < a.sites; g += block.at.warps) {
    const SharedSite<T>& site = a.site[g];
    const float to_common = total_of(block.at.padded * kSites + g);
    const float with_last = a.scaled ? total_of((block.at.padded + 1) * kSites + g) : 0.0f;
    const float last_scale = a.scaled ? a.scale[a.n - 1] : 1.0f;
    Saved saved[2];
    float scale[2], e[2], mean = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = block.lane + half * kWarp;
      scale[half] = 1;
      e[half] = 0;
      if (j >= a.count) continue;
      saved[half] = half == 0 && g == block.warp ? first_saved : load_saved(site, saved_row + a.place[j]);
      if (a.scaled) scale[half] = a.scale[a.place[j]];
      if (saved[half].weight == 0.0f) continue;  // the source may be anything
      e[half] = scale[half] * (total_of(j * kSites + g) + to_common) + (scale[half] - last_scale) * with_last;
      mean += saved[half].weight * e[half];
    }
    mean = warp_sum(mean);
    float others = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = block.lane + half * kWarp;
      if (j >= block.at.padded) continue;
      const Saved& s = saved[half];
      const float dlogit = s.weight * (e[half] - mean), to_u = dlogit * s.inv_rms;
      others += dlogit;
      const int place = (j / kSources * kSites + g) * kSources + j % kSources;
      block.shared[block.at.to_dh + place] = scale[half] * s.weight;
      block.shared[block.at.to_u + place] = to_u;
      block.shared[block.at.to_v + place] =
          to_u * (s.inv_rms * s.inv_rms * s.dot / static_cast<float>(block.d));
      if (site.dlogits && j < a.count) site.dlogits[saved_row + a.place[j]] = dlogit;
    }
    others = warp_sum(others);
    if (block.lane == 0) {
      const int64_t last = saved_row + a.n - 1;
      // Not -a_n mean: du is a difference of terms that must cancel. With a weight of 0, exactly 0.
      const float dlogit = site.weights[last] == 0.0f ? 0.0f : -others;
      block.shared[block.at.current_to_u + g] = dlogit * site.inv_rms[last];
      block.shared[block.at.dbias + g] += dlogit;
      if (site.dlogits) site.dlogits[last] = dlogit;
    }
  }
}

/// Phase d. Adds to the gradients of the sources, and to du.
template <bool kFull, typename T, int kSites, int kQuads>
__device__ __forceinline__ void add_gradients(const SharedArguments<T>& a, const Block& block, int64_t token,
                                              Registers<T, kSites, kQuads>& mine) {
  const int64_t row = token * block.d;
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const int c = block.column(q);
    RawQuad<T> current[kSites];
#pragma unroll
    for (int g = 0; g < kSites; ++g)
      current[g] =
          (kFull || g < a.sites) && c < block.d ? load_raw_quad(a.site[g].current + row + c) : RawQuad<T>{};
#pragma unroll
    for (int g = 0; g < kSites; ++g) {
      if (!kFull && g >= a.sites) continue;
      const float to_u = block.shared[block.at.current_to_u + g];
      const Quad v = unpack(current[g]);
#pragma unroll
      for (int e = 0; e < kQuad; ++e) mine.du[g][q][e] = fmaf(to_u, v.x[e], mine.du[g][q][e]);
    }
  }
  for (int first = 0; first < a.count; first += kSources) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int c = block.column(q);
      if (c >= block.d) continue;
      RawQuad<T> raw[kSources];
      Quad dv[kSources];
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        const int s = first + k;
        raw[k] = s < a.count ? load_raw_quad(a.source[s] + row + c) : RawQuad<T>{};
        dv[k] = s < a.count && !a.repeated[s] && !a.starts[s] ? load_quad(a.dsource[s] + row + c) : Quad{};
      }
      float to_v[kSources] = {};
#pragma unroll
      for (int g = 0; g < kSites; ++g) {
        if (!kFull && g >= a.sites) continue;
        const int place = (first / kSources * kSites + g) * kSources;
        const Quad site_to_dh = load_quad(block.shared + block.at.to_dh + place);
        const Quad site_to_u = load_quad(block.shared + block.at.to_u + place);
        const Quad site_to_v = load_quad(block.shared + block.at.to_v + place);
        const Quad u = load_quad(block.shared + block.at.u + g * block.d + c);
#pragma unroll
        for (int k = 0; k < kSources; ++k) {
          const Quad v = unpack(raw[k]);
          to_v[k] += site_to_v.x[k];
#pragma unroll
          for (int e = 0; e < kQuad; ++e) {
            dv[k].x[e] += site_to_dh.x[k] * mine.dh[g][q][e] + site_to_u.x[k] * u.x[e];
            mine.du[g][q][e] = fmaf(site_to_u.x[k], v.x[e], mine.du[g][q][e]);
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        const int s = first + k;
        if (s >= a.count) continue;
        const Quad v = unpack(raw[k]);
        // Read only now, after the earlier source's gradient has been stored.
        const Quad before = a.repeated[s] ? load_quad(a.dsource[s] + row + c) : Quad{};
#pragma unroll
        for (int e = 0; e < kQuad; ++e) dv[k].x[e] += before.x[e] - to_v[k] * v.x[e];
        store_quad(a.dsource[s] + row + c, dv[k]);
      }
    }
  }
}

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

}  // namespace depthroute::cuda::backward_shared
