// The oracle of the routing tests: depth routing (train/model/SPEC.md §1) and its gradients in float64 loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "tests/kernels/op_test.h"

namespace depthroute::test {

using Doubles = std::vector<double>;

/// The same values, as activations of type A.
template <typename A>
A as(const F32& x) {
  if constexpr (std::is_same_v<A, F32>) {
    return x;
  } else {
    return to_bf16(x, x.tensor().shape);
  }
}

/// One site and its data in float32. Source j is state[source[j]], so a state can be two sources. The forward
/// pass also takes states of R rows, R a divisor of the number of tokens.
struct RoutingProblem {
  int64_t tokens = 0, d = 0;
  std::vector<int> source;
  std::vector<F32> state;  // before `add`
  F32 query, key_norm, bias, norm_weight, add, doutput;
  bool has_query = true, has_bias = true, has_add = false;
  bool mix_is_source = false;        // if the site has one source: backward takes it as the mix
  bool in_bf16 = false;              // states, add and doutput are bfloat16 numbers
  std::vector<float> offset, scale;  // empty or one per source
  float key_eps = 1e-6f, norm_eps = 1e-6f;

  int n() const { return static_cast<int>(source.size()); }

  /// n distinct random states. The sources differ in size, and queries are large enough for uneven weights.
  static RoutingProblem random(int64_t tokens, int64_t d, int n, uint64_t seed) {
    RoutingProblem p{
        .tokens = tokens,
        .d = d,
        .query = random_f32({d}, seed, 1.0 / std::sqrt(static_cast<double>(d))),
        .key_norm = random_f32({d}, seed + 1, 0.2, 1.0),
        .bias = random_f32({1}, seed + 2, 0.5),
        .norm_weight = random_f32({d}, seed + 3, 0.2, 1.0),
        .add = random_f32({tokens, d}, seed + 4),
        .doutput = random_f32({tokens, d}, seed + 5),
    };
    for (int j = 0; j < n; ++j) {
      p.source.push_back(j);
      p.state.push_back(random_f32({tokens, d}, seed + 6 + j, 0.5 + 0.1 * j));
    }
    return p;
  }

  /// Activations rounded to bfloat16.
  void round_to_bf16() {
    in_bf16 = true;
    const auto round = [](F32& x) {
      for (int64_t i = 0; i < x.size(); ++i) x[i] = Bf16(x[i]);
    };
    for (F32& s : state) round(s);
    round(add);
    round(doutput);
  }
};

/// Sites that share all sources but the last, as the sites of one block do.
inline std::vector<RoutingProblem> random_group(int64_t tokens, int64_t d, int n, int sites, uint64_t seed) {
  std::vector<RoutingProblem> group;
  const RoutingProblem states = RoutingProblem::random(tokens, d, n - 1 + sites, seed);
  for (int g = 0; g < sites; ++g) {
    RoutingProblem p = RoutingProblem::random(tokens, d, n, seed + 100 * (g + 1));
    p.state = states.state;
    p.source.back() = n - 1 + g;
    group.push_back(p);
  }
  return group;
}

/// What forward and backward write, with activations of type A (F32 or BF16).
template <typename A>
struct RoutingResultOf {
  explicit RoutingResultOf(const RoutingProblem& p)
      : output({p.tokens, p.d}),
        inverse_norm({p.d}, 0.0f),
        weights({p.tokens, p.n()}),
        inv_rms({p.tokens, p.n()}),
        dots({p.tokens, p.n()}),
        rstd({p.tokens}),
        projection({p.tokens}),
        partial({p.tokens, p.d}),
        partial_lse({p.tokens}),
        dstate(p.state.size(), A({p.tokens, p.d}, 0.0f)),
        dquery({p.d}, 0.0f),
        dkey_norm({p.d}, 0.0f),
        dbias({1}, 0.0f),
        dnorm_weight({p.d}, 0.0f),
        dlogits({p.tokens, p.n()}) {
    for (const F32& s : p.state) state.push_back(as<A>(s));
  }

  std::vector<F32> all() const {
    std::vector<F32> result = {output,     inverse_norm, weights,   inv_rms, dots,         rstd,
                               projection, dquery,       dkey_norm, dbias,   dnorm_weight, dlogits};
    result.insert(result.end(), state.begin(), state.end());
    result.insert(result.end(), dstate.begin(), dstate.end());
    return result;
  }

  std::vector<A> state;  // after `add`
  A output;
  F32 inverse_norm, weights, inv_rms, dots, rstd, projection;
  A partial;  // written by reads in two phases
  F32 partial_lse;
  std::vector<A> dstate;
  F32 dquery, dkey_norm, dbias, dnorm_weight, dlogits;
};
using RoutingResult = RoutingResultOf<F32>;

/// The tensors of one site; `states` are the group's.
template <typename A>
struct RoutingCall {
  RoutingCall(const RoutingProblem& p, RoutingResultOf<A>& r, const std::vector<A>& states)
      : add(as<A>(p.add)), doutput(as<A>(p.doutput)) {
    for (int s : p.source) sources.push_back(states[s]);
    site = {.sources = sources,
            .query = p.has_query ? p.query.tensor() : Tensor{},
            .key_norm = p.has_query ? p.key_norm.tensor() : Tensor{},
            .recency_bias = p.has_bias ? p.bias.tensor() : Tensor{},
            .offset = p.offset,
            .scale = p.scale,
            .key_eps = p.key_eps,
            .norm_weight = p.norm_weight,
            .norm_eps = p.norm_eps,
            .weights = r.weights,
            .inv_rms = r.inv_rms,
            .dots = r.dots,
            .rstd = r.rstd,
            .output = p.mix_is_source ? Tensor{} : r.output.tensor(),
            .inverse_norm = p.mix_is_source ? Tensor{} : r.inverse_norm.tensor(),
            .projection = r.projection};
    gradients = {.query = p.has_query ? r.dquery.tensor() : Tensor{},
                 .key_norm = p.has_query ? r.dkey_norm.tensor() : Tensor{},
                 .recency_bias = p.has_bias ? r.dbias.tensor() : Tensor{},
                 .norm_weight = r.dnorm_weight,
                 .logits = r.dlogits};
  }
  RoutingCall(const RoutingCall&) = delete;

  A add, doutput;
  std::vector<Tensor> sources;
  ops::RoutingSite site;
  ops::RoutingGradients gradients;
};

enum class Phases { one, two };

/// Runs forward for all sites of a group, then both parts of backward, through ops.h. The states and their
/// gradients are those of the first result; gradients are added to what the results hold.
template <typename A>
void run_group(const std::vector<RoutingProblem>& problems, std::vector<RoutingResultOf<A>>& results,
               Phases phases = Phases::one) {
  std::vector<std::unique_ptr<RoutingCall<A>>> calls;
  std::vector<ops::RoutingSite> sites;
  std::vector<ops::RoutingGradients> gradients;
  std::vector<Tensor> doutputs, dsources;
  for (size_t g = 0; g < problems.size(); ++g) {
    calls.push_back(std::make_unique<RoutingCall<A>>(problems[g], results[g], results[0].state));
    sites.push_back(calls[g]->site);
    if (phases == Phases::one) continue;
    sites[g].partial = results[g].partial;
    sites[g].partial_lse = results[g].partial_lse;
  }
  if (phases == Phases::two) ops::routing_read_finished(stream(), sites);
  for (size_t g = 0; g < problems.size(); ++g) {
    ops::routing_forward(stream(), sites[g], problems[g].has_add ? calls[g]->add.tensor() : Tensor{},
                         results[g].output);
    gradients.push_back(calls[g]->gradients);
    doutputs.push_back(calls[g]->doutput);
  }
  const F32 scratch = workspace(ops::routing_backward_workspace(device(), problems[0].d));
  for (size_t g = 0; g < problems.size(); ++g)
    ops::routing_backward(stream(), sites[g], doutputs[g], {}, 1,
                          results[0].dstate[problems[g].source.back()], gradients[g], scratch);
  for (int j = 0; j + 1 < problems[0].n(); ++j) dsources.push_back(results[0].dstate[problems[0].source[j]]);
  ops::routing_backward_shared(stream(), sites, doutputs, dsources, {}, gradients, scratch);
}

/// The same for a group of one.
template <typename A>
void run_routing(const RoutingProblem& p, RoutingResultOf<A>& r) {
  std::vector<RoutingResultOf<A>> results = {r};
  run_group<A>({p}, results);
  r = results[0];
}
template <typename A = F32>
RoutingResultOf<A> run_routing(const RoutingProblem& p) {
  RoutingResultOf<A> result(p);
  run_routing(p, result);
  return result;
}

/// Runs forward only, without keeping anything for backward.
template <typename A = F32>
RoutingResultOf<A> run_routing_forward(const RoutingProblem& p) {
  RoutingResultOf<A> result(p);
  RoutingCall<A> call(p, result, result.state);
  call.site.output = call.site.inverse_norm = call.site.projection = {};
  ops::routing_forward(stream(), call.site, p.has_add ? call.add.tensor() : Tensor{}, result.output);
  return result;
}

/// The problem's values in float64, for finite differences to change.
struct RoutingValues {
  explicit RoutingValues(const RoutingProblem& p)
      : query(p.query.doubles()),
        key_norm(p.key_norm.doubles()),
        bias(p.bias.doubles()),
        norm_weight(p.norm_weight.doubles()) {
    for (const F32& s : p.state) state.push_back(s.doubles());
  }
  std::vector<Doubles> state;
  Doubles query, key_norm, bias, norm_weight;
};

struct RoutingOracle {
  Doubles output, mix, weights, inv_rms, dots, rstd;
  std::vector<Doubles> dstate;
  Doubles dquery, dkey_norm, dbias, dnorm_weight, dlogits;
};

inline RoutingOracle routing_oracle(const RoutingProblem& p, const RoutingValues& in) {
  const int n = p.n();
  const int64_t d = p.d;
  RoutingOracle r{.output = Doubles(p.tokens * d),
                  .mix = Doubles(p.tokens * d),
                  .weights = Doubles(p.tokens * n),
                  .inv_rms = Doubles(p.tokens * n),
                  .dots = Doubles(p.tokens * n),
                  .rstd = Doubles(p.tokens),
                  .dstate = std::vector<Doubles>(in.state.size(), Doubles(p.tokens * d)),
                  .dquery = Doubles(d),
                  .dkey_norm = Doubles(d),
                  .dbias = Doubles(1),
                  .dnorm_weight = Doubles(d),
                  .dlogits = Doubles(p.tokens * n)};
  const auto offset = [&](int j) { return p.offset.empty() ? 0.0 : static_cast<double>(p.offset[j]); };
  const auto scale = [&](int j) { return p.scale.empty() ? 1.0 : static_cast<double>(p.scale[j]); };
  const auto value = [&](int j, int64_t i) {  // V_j, counted from the first token's first column
    const double added = p.has_add && p.source[j] == p.source[n - 1] ? static_cast<double>(p.add[i]) : 0.0;
    const double sum = in.state[p.source[j]][i] + added;
    return p.in_bf16 ? static_cast<double>(static_cast<float>(Bf16(static_cast<float>(sum)))) : sum;
  };
  for (int64_t t = 0; t < p.tokens; ++t) {
    const int64_t row = t * d;
    double* a = &r.weights[t * n];
    double* rms = &r.inv_rms[t * n];
    double* c = &r.dots[t * n];
    double total = 0;
    for (int j = 0; j < n; ++j) {
      if (std::isinf(offset(j))) continue;
      for (int64_t i = 0; i < d && p.has_query; ++i) {
        rms[j] += value(j, row + i) * value(j, row + i);
        c[j] += in.query[i] * in.key_norm[i] * value(j, row + i);
      }
      if (p.has_query) rms[j] = 1 / std::sqrt(rms[j] / static_cast<double>(d) + p.key_eps);
      a[j] = std::exp(rms[j] * c[j] + offset(j) + (p.has_bias && j == n - 1 ? in.bias[0] : 0.0));
      total += a[j];
    }
    for (int j = 0; j < n; ++j) a[j] /= total;

    Doubles h(d), dh(d), g(d);
    double squares = 0, g_dot_h = 0;
    for (int64_t i = 0; i < d; ++i) {
      for (int j = 0; j < n; ++j)
        if (a[j] != 0) h[i] += scale(j) * a[j] * value(j, row + i);
      r.mix[row + i] = h[i];
      squares += h[i] * h[i];
      g[i] = static_cast<double>(p.doutput[row + i]) * in.norm_weight[i];
      g_dot_h += g[i] * h[i];
    }
    const double rstd = r.rstd[t] = 1 / std::sqrt(squares / static_cast<double>(d) + p.norm_eps);
    for (int64_t i = 0; i < d; ++i) {
      r.output[row + i] = h[i] * rstd * in.norm_weight[i];
      r.dnorm_weight[i] += static_cast<double>(p.doutput[row + i]) * h[i] * rstd;
      dh[i] = rstd * (g[i] - rstd * rstd * h[i] * g_dot_h / static_cast<double>(d));
    }

    Doubles from_mix(n);  // d_j
    double mean = 0;
    for (int j = 0; j < n; ++j) {
      if (a[j] == 0) continue;
      for (int64_t i = 0; i < d; ++i) from_mix[j] += scale(j) * dh[i] * value(j, row + i);
      mean += a[j] * from_mix[j];
    }
    for (int j = 0; j < n; ++j) {
      if (a[j] == 0) continue;
      const double dlogit = n == 1 ? 0 : a[j] * (from_mix[j] - mean);
      r.dlogits[t * n + j] = dlogit;
      if (j == n - 1 && p.has_bias) r.dbias[0] += dlogit;
      const double through_rms = rms[j] * rms[j] * rms[j] * c[j] / static_cast<double>(d);
      for (int64_t i = 0; i < d; ++i) {
        const double v = value(j, row + i);
        r.dstate[p.source[j]][row + i] +=
            scale(j) * a[j] * dh[i] + dlogit * (rms[j] * in.query[i] * in.key_norm[i] - through_rms * v);
        r.dquery[i] += dlogit * rms[j] * v * in.key_norm[i];
        r.dkey_norm[i] += dlogit * rms[j] * v * in.query[i];
      }
    }
  }
  return r;
}

inline RoutingOracle routing_oracle(const RoutingProblem& p) { return routing_oracle(p, RoutingValues(p)); }

}  // namespace depthroute::test
