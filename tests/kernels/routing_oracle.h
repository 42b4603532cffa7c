// Depth routing in float64 loops, as SPEC writes it, and its gradients: the oracle of the routing tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/kernels/op_test.h"

namespace depthroute::test {

using Doubles = std::vector<double>;

/// One site and its data in float32. Source j is state[source[j]], so a state can be two sources.
struct RoutingProblem {
  int64_t tokens = 0, d = 0;
  std::vector<int> source;
  std::vector<F32> state;  // before `add`
  F32 query, key_norm, bias, norm_weight, add, doutput;
  bool has_query = true, has_bias = true, has_add = false;
  std::vector<float> offset, scale;  // empty or one per source
  float key_eps = 1e-6f, norm_eps = 1e-6f;

  int n() const { return static_cast<int>(source.size()); }

  /// n distinct random states. The sources differ in size, queries are large enough for uneven weights.
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
};

struct RoutingResult {
  explicit RoutingResult(const RoutingProblem& p)
      : state(p.state),
        output({p.tokens, p.d}),
        weights({p.tokens, p.n()}),
        inv_rms({p.tokens, p.n()}),
        dots({p.tokens, p.n()}),
        rstd({p.tokens}),
        dstate(p.state.size(), F32({p.tokens, p.d}, 0.0f)),
        dquery({p.d}, 0.0f),
        dkey_norm({p.d}, 0.0f),
        dbias({1}, 0.0f),
        dnorm_weight({p.d}, 0.0f) {}

  std::vector<F32> all() const {
    std::vector<F32> result = {output, weights, inv_rms, dots, rstd, dquery, dkey_norm, dbias, dnorm_weight};
    result.insert(result.end(), state.begin(), state.end());
    result.insert(result.end(), dstate.begin(), dstate.end());
    return result;
  }

  std::vector<F32> state;  // after `add`
  F32 output, weights, inv_rms, dots, rstd;
  std::vector<F32> dstate;
  F32 dquery, dkey_norm, dbias, dnorm_weight;
};

/// Forward and backward through ops.h; gradients accumulate onto what `r` holds.
inline void run_routing(const RoutingProblem& p, RoutingResult& r) {
  std::vector<Tensor> sources, gradients;
  for (int s : p.source) {
    sources.push_back(r.state[s]);
    gradients.push_back(r.dstate[s]);
  }
  const ops::RoutingSite site{.sources = sources,
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
                              .rstd = r.rstd};
  ops::routing_forward(kCpu, site, p.has_add ? p.add.tensor() : Tensor{}, r.output);
  const ops::RoutingGradients to{.sources = gradients,
                                 .query = p.has_query ? r.dquery.tensor() : Tensor{},
                                 .key_norm = p.has_query ? r.dkey_norm.tensor() : Tensor{},
                                 .recency_bias = p.has_bias ? r.dbias.tensor() : Tensor{},
                                 .norm_weight = r.dnorm_weight};
  const F32 scratch = workspace(ops::reduction_workspace(2 * p.d + 1));
  ops::routing_backward(kCpu, site, p.doutput, to, scratch);
}

inline RoutingResult run_routing(const RoutingProblem& p) {
  RoutingResult result(p);
  run_routing(p, result);
  return result;
}

/// The problem's values in float64; finite differences change them.
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
  Doubles output, weights, inv_rms, dots, rstd;
  std::vector<Doubles> dstate;
  Doubles dquery, dkey_norm, dbias, dnorm_weight;
};

inline RoutingOracle routing_oracle(const RoutingProblem& p, const RoutingValues& in) {
  const int n = p.n();
  const int64_t d = p.d;
  RoutingOracle r{.output = Doubles(p.tokens * d),
                  .weights = Doubles(p.tokens * n),
                  .inv_rms = Doubles(p.tokens * n),
                  .dots = Doubles(p.tokens * n),
                  .rstd = Doubles(p.tokens),
                  .dstate = std::vector<Doubles>(in.state.size(), Doubles(p.tokens * d)),
                  .dquery = Doubles(d),
                  .dkey_norm = Doubles(d),
                  .dbias = Doubles(1),
                  .dnorm_weight = Doubles(d)};
  const auto offset = [&](int j) { return p.offset.empty() ? 0.0 : static_cast<double>(p.offset[j]); };
  const auto scale = [&](int j) { return p.scale.empty() ? 1.0 : static_cast<double>(p.scale[j]); };
  const auto value = [&](int j, int64_t i) {  // V_j, counted from the first token's first column
    const double added = p.has_add && p.source[j] == p.source[n - 1] ? static_cast<double>(p.add[i]) : 0.0;
    return in.state[p.source[j]][i] + added;
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
