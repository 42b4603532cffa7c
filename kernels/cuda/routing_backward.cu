// Depth routing, backward, first part: the gradients of one site's current state V and of norm_weight. With
// g = doutput * norm_weight, and dots over a row:
//
//   p = rstd^2 (g . h) / D;  dh = rstd (g - p h);  dlogit = a (scale dh . (V - h) + (scale - 1) dh . h)
//   dV += scale a dh + dlogit (r u - (r^3 c / D) V);  dnorm_weight = sum over tokens of doutput rstd h
//
// h is found again as output / (rstd w) (kFinds), or is V itself where V is the only source. Found, rstd (g . h) is
// doutput . output, and dnorm_weight the sum of doutput output, divided by w once.
//
// A block takes a chunk of the tokens, each team of its warps (routing.cuh) one token at a time, in
// registers: doutput, output, V and dV are loaded together, and p is known before the second product. dnorm_weight
// accumulates in registers over the chunk; the teams of a block then add theirs to its row of the workspace,
// one after another.
//
// Memory traffic per token, in rows of D: 5 (doutput, output, V; dV read and written); one less for a site without a
// query, one less where dV is not accumulated, one more where a residual addition passes its gradient on.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

template <typename T>
struct BackwardArguments {
  const T *doutput, *kept, *current;      // [N,D]; kept: the output, or h
  const float* inverse_norm;              // [D], with kFinds
  const T* add;                           // [N,D] or nullptr
  T* dcurrent;                            // [N,D]
  const float *query, *key_norm;          // [D] or nullptr
  const float* norm_weight;               // [D]
  const float *weights, *inv_rms, *dots;  // [N,n]
  const float* rstd;                      // [N]
  float* projection;                      // [N] or nullptr
  float scale;                            // of the last source
  int n;                                  // sources of the site
  bool accumulates;                       // into what dcurrent holds
};

/// A lane's columns of h, from what was kept of it.
template <bool kFinds, typename T>
__device__ __forceinline__ Pack find_mix(const RawPack<T>& kept, const float* inverse_norm, int at,
                                         float rms) {
  Pack h = unpack(kept);
  if constexpr (kFinds) {
    const Pack inverse = load_pack(inverse_norm + at);
#pragma unroll
    for (int e = 0; e < kPack; ++e) h.x[e] *= rms * inverse.x[e];
  }
  return h;
}

template <typename T, int kWarps, bool kFinds>
__global__ __launch_bounds__(team_threads(kWarps), team_blocks<T>(kWarps)) void routing_backward_kernel(
    const __grid_constant__ BackwardArguments<T> a, int64_t n_tokens, int d,
    float* partials /*[chunks, D]*/) {
  DR_DYNAMIC_SHARED(float, shared);
  Team<kWarps> team(shared);
  const TokenRange range = chunk_tokens(n_tokens, gridDim.x, blockIdx.x);

  float dnorm_weight[kTeamPacks][kPack];
#pragma unroll
  for (auto& pack : dnorm_weight)
#pragma unroll
    for (float& x : pack) x = 0;

  for (int64_t token = range.begin + team.token; token < range.end; token += team.tokens) {
    const int64_t row = token * d, last = token * a.n + a.n - 1;
    const float weight = a.weights[last], rstd = a.rstd[token], rms = 1.0f / rstd;
    // With a weight of 0, the source may hold anything. With a weight of 1, the other sources have none, and
    // no logit of the site has a gradient: exactly 0, not what rounding would give.
    const bool has_gradient = weight != 0.0f, routes = a.query && has_gradient && weight != 1.0f;

    RawPack<T> doutput[kTeamPacks], kept[kTeamPacks], current[kTeamPacks], dcurrent[kTeamPacks];
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Column column = team.column(i, d);
      const int64_t at = row + column.at;
      doutput[i] = column.inside ? load_raw(a.doutput + at) : RawPack<T>{};
      kept[i] = column.inside ? load_raw(a.kept + at) : RawPack<T>{};
      current[i] = column.inside && routes ? load_raw(a.current + at) : RawPack<T>{};
      dcurrent[i] = column.inside && a.accumulates ? load_raw(a.dcurrent + at) : RawPack<T>{};
    }

    float products[1] = {};  // doutput . output, or g . h
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Column column = team.column(i, d);
      if (!column.inside) continue;
      const Pack dy = unpack(doutput[i]), from = unpack(kept[i]);
      const Pack w = kFinds ? Pack{} : load_pack(a.norm_weight + column.at);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        const float product = dy.x[e] * from.x[e];
        products[0] += kFinds ? product : product * w.x[e];
        dnorm_weight[i][e] += kFinds ? product : product * rstd;
      }
    }
    team.sum_each(products);
    const float p = (kFinds ? rstd : rstd * rstd) * products[0] / static_cast<float>(d);
    if (a.projection && team.thread == 0) a.projection[token] = p;
    if (!has_gradient && a.accumulates && !a.add) continue;

    float to_u = 0, to_v = 0;
    if (routes) {
      float with_dh[2] = {};  // dh . (V - h), dh . h
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        if (!column.inside) continue;
        const Pack dy = unpack(doutput[i]), v = unpack(current[i]);
        const Pack w = load_pack(a.norm_weight + column.at);
        const Pack h = find_mix<kFinds>(kept[i], a.inverse_norm, column.at, rms);
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float dh = rstd * (dy.x[e] * w.x[e] - p * h.x[e]);
          with_dh[0] += dh * (v.x[e] - h.x[e]);
          with_dh[1] += dh * h.x[e];
        }
      }
      team.sum_each(with_dh);
      const float dlogit = weight * (a.scale * with_dh[0] + (a.scale - 1) * with_dh[1]);
      const float inv_rms = a.inv_rms[last];
      to_u = dlogit * inv_rms;
      to_v = to_u * (inv_rms * inv_rms * a.dots[last] / static_cast<float>(d));
    }

    const float to_dh = a.scale * weight * rstd;
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Column column = team.column(i, d);
      if (!column.inside) continue;
      const Pack dy = unpack(doutput[i]), w = load_pack(a.norm_weight + column.at);
      const Pack h = find_mix<kFinds>(kept[i], a.inverse_norm, column.at, rms);
      Pack dv = unpack(dcurrent[i]);
      if (has_gradient) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) dv.x[e] += to_dh * (dy.x[e] * w.x[e] - p * h.x[e]);
      }
      if (routes) {
        const Pack v = unpack(current[i]);
        const Pack query = load_pack(a.query + column.at), key_norm = load_pack(a.key_norm + column.at);
#pragma unroll
        for (int e = 0; e < kPack; ++e) dv.x[e] += to_u * (query.x[e] * key_norm.x[e]) - to_v * v.x[e];
      }
      if (a.add) {  // last: only at the boundaries of blocks, so that no site pays for its registers
        const Pack more = load_pack(a.add + row + column.at);
#pragma unroll
        for (int e = 0; e < kPack; ++e) dv.x[e] += more.x[e];
      }
      store_pack(a.dcurrent + row + column.at, dv);
    }
  }

  float* partial = partials + static_cast<int64_t>(blockIdx.x) * d;
  for (int turn = 0; turn < team.tokens; ++turn) {
    if (turn == team.token) {
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        if (!column.inside) continue;
        Pack sum = turn == 0 ? Pack{} : load_pack(partial + column.at);
        const Pack inverse = kFinds ? load_pack(a.inverse_norm + column.at) : Pack{};
#pragma unroll
        for (int e = 0; e < kPack; ++e)
          sum.x[e] += kFinds ? dnorm_weight[i][e] * inverse.x[e] : dnorm_weight[i][e];
        store_pack(partial + column.at, sum);
      }
    }
    __syncthreads();
  }
}

}  // namespace

void routing_backward(Stream stream, const RoutingSite& site, const Tensor& doutput, const Tensor& add,
                      float beta, const Tensor& dcurrent, const RoutingGradients& gradients,
                      const Tensor& workspace) {
  const int64_t n_tokens = doutput.rows(), d = doutput.cols(), chunks = reduction_chunks(n_tokens);
  const size_t n = site.sources.size();
  const bool finds = site.output.defined();
  if (n_tokens == 0) return;
  const TeamLaunch shape = team_launch(d);
  with_activation_type(doutput.dtype, [&]<typename T>() {
    const BackwardArguments<T> arguments = {.doutput = pointer<T>(doutput),
                                            .kept = pointer<T>(finds ? site.output : site.sources[n - 1]),
                                            .current = pointer<T>(site.sources[n - 1]),
                                            .inverse_norm = pointer<float>(site.inverse_norm),
                                            .add = pointer<T>(add),
                                            .dcurrent = pointer<T>(dcurrent),
                                            .query = pointer<float>(site.query),
                                            .key_norm = pointer<float>(site.key_norm),
                                            .norm_weight = pointer<float>(site.norm_weight),
                                            .weights = pointer<float>(site.weights),
                                            .inv_rms = pointer<float>(site.inv_rms),
                                            .dots = pointer<float>(site.dots),
                                            .rstd = pointer<float>(site.rstd),
                                            .projection = pointer<float>(site.projection),
                                            .scale = site.scale_of(n - 1),
                                            .n = static_cast<int>(n),
                                            .accumulates = beta != 0.0f};
    const auto choose = [&]<bool kFinds>() {
      return shape.warps == 1             ? routing_backward_kernel<T, 1, kFinds>
             : shape.warps == kMediumTeam ? routing_backward_kernel<T, kMediumTeam, kFinds>
                                          : routing_backward_kernel<T, kLargeTeam, kFinds>;
    };
    const auto kernel = finds ? choose.template operator()<true>() : choose.template operator()<false>();
    launch(kernel, dim3(static_cast<unsigned>(chunks)), dim3(static_cast<unsigned>(shape.threads)),
           shape.shared_bytes, handle(stream), arguments, n_tokens, static_cast<int>(d),
           pointer<float>(workspace));
  });
  if (gradients.norm_weight.defined()) {
    const PartialSums sum = {workspace, d, 0, gradients.norm_weight};
    add_partial_sums(stream, n_tokens, {&sum, 1});
  }
  if (n == 1 && gradients.logits.defined()) zero(stream, gradients.logits);
}

}  // namespace depthroute::cuda
