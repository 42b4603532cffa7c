// Depth routing, backward. Per token two passes over the columns, the second one from the cache:
//   1. h again, and the products of g and h with the sources that give every dlogit_j;
//   2. h and dh again, the gradients of the sources, and the partial sums of the parameters' gradients.
// Each pass asks for the rows that the following one reads first (this token's gradients, the next token's
// sources). Nothing of size D is kept: recomputing h from cached sources costs less than the memory it would
// need.
#include <array>
#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/routing_math.h"

namespace depthroute::cpu {
namespace {

/// One token, and what is found out about it. One of these per thread serves all tokens: it is too large to
/// be cleared for each. With g = doutput * norm_weight, the gradient of h is dh = rstd (g - projection h).
struct Token {
  const float* doutput;
  const float* norm_weight;
  float rstd;
  int64_t to_next;  // from this token's rows to the next one's, 0 at the end
  Mix mix;
  // Per source of the mix:
  std::array<float*, kMaxSources> dsource;
  std::array<float, kMaxSources> weight, scale, inv_rms, dot, dlogit;
  float projection;  // rstd^2 (g . h) / D
  // Products of g and of h with V_j - V_ref (find_dlogits).
  Block<1> with_g[kMaxSources], with_h[kMaxSources];

  template <typename T>
  T norm_gradient(int64_t i) const {
    return load<T>(doutput + i) * load<T>(norm_weight + i);
  }
};

/// Pass 1, sites whose weights have no gradient: the projection only.
void find_projection(int64_t d, Token& token) {
  Block<1> g_dot_h{};
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T g = token.norm_gradient<T>(i), h = token.mix.at_column<T>(i);
    accumulate(g_dot_h, T(g * h));
    for (int k = 0; k < token.mix.count; ++k) prefetch<T>(token.dsource[k] + i);
  });
  token.projection = static_cast<float>(token.rstd * token.rstd * total(g_dot_h) / static_cast<double>(d));
}

/// Pass 1. dlogit_j = a_j (d_j - sum_i a_i d_i) cancels: the d_i are nearly equal, and dh is nearly
/// orthogonal to h. So every d_j is taken relative to the last source: dh . (V_j - V_ref) loses nothing where
/// states of one residual stream are close (their difference is then exact), and is exactly 0 for one source.
void find_dlogits(int64_t d, Token& token) {
  const int last = token.mix.count - 1;
  const float* reference = token.mix.row[last];
  auto& with_g = token.with_g;  // at `last`, the product with V_ref itself
  auto& with_h = token.with_h;
  for (int k = 0; k <= last; ++k) with_g[k] = with_h[k] = Block<1>{};
  Block<1> g_dot_h{};
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T g = token.norm_gradient<T>(i), h = token.mix.at_column<T>(i);
    const T v_ref = load<T>(reference + i);
    accumulate(g_dot_h, T(g * h));
    prefetch<T>(token.dsource[last] + i);
    for (int k = 0; k < last; ++k) {
      prefetch<T>(token.dsource[k] + i);
      const T difference = load<T>(token.mix.row[k] + i) - v_ref;
      accumulate(with_g[k], T(g * difference));
      accumulate(with_h[k], T(h * difference));
    }
    accumulate(with_g[last], T(g * v_ref));
    accumulate(with_h[last], T(h * v_ref));
  });

  const double rstd = token.rstd;
  const double projection = rstd * rstd * total(g_dot_h) / static_cast<double>(d);
  token.projection = static_cast<float>(projection);
  const auto with_dh = [&](int k) { return rstd * (total(with_g[k]) - projection * total(with_h[k])); };

  const double d_ref = with_dh(last);
  std::array<double, kMaxSources> relative;  // d_k - d_ref
  double mean = 0;
  for (int k = 0; k < last; ++k) {
    const double scale = token.scale[k];
    relative[k] = scale * with_dh(k) + (scale - token.scale[last]) * d_ref;
    mean += token.weight[k] * relative[k];
  }
  relative[last] = 0;
  for (int k = 0; k <= last; ++k)
    token.dlogit[k] = static_cast<float>(token.weight[k] * (relative[k] - mean));
}

/// Where pass 2 adds the token's part of the parameters' gradients.
struct Partials {
  float* norm_weight;  // [D]
  float* u;            // [D] of u = query * key_norm
};

/// Pass 2, sites whose weights have no gradient with respect to the sources (no query, or one source).
void add_gradients(int64_t d, const Token& token, const Partials& partials) {
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T g = token.norm_gradient<T>(i), h = token.mix.at_column<T>(i);
    at<T>(partials.norm_weight + i) += load<T>(token.doutput + i) * (token.rstd * h);
    const T dh = token.rstd * (g - token.projection * h);
    for (int k = 0; k < token.mix.count; ++k) {
      prefetch<T>(token.mix.row[k] + token.to_next + i);
      at<T>(token.dsource[k] + i) += token.mix.factor[k] * dh;
    }
  });
}

/// Pass 2: dV_j += factor_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j), du += sum_j dlogit_j r_j V_j. The
/// sources follow one another within each vector, so two of them may share a gradient.
void add_routed_gradients(int64_t d, const Token& token, const float* query, const float* key_norm,
                          const Partials& partials) {
  const int count = token.mix.count;
  std::array<float, kMaxSources> to_u, to_v;
  for (int k = 0; k < count; ++k) {
    const float r = token.inv_rms[k];
    to_u[k] = token.dlogit[k] * r;
    to_v[k] = to_u[k] * (r * r * token.dot[k] / static_cast<float>(d));
  }
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T g = token.norm_gradient<T>(i), h = token.mix.at_column<T>(i);
    at<T>(partials.norm_weight + i) += load<T>(token.doutput + i) * (token.rstd * h);
    const T dh = token.rstd * (g - token.projection * h);
    const T u = load<T>(query + i) * load<T>(key_norm + i);
    T du = T{};
    for (int k = 0; k < count; ++k) {
      prefetch<T>(token.mix.row[k] + token.to_next + i);
      const T v = load<T>(token.mix.row[k] + i);
      at<T>(token.dsource[k] + i) += token.mix.factor[k] * dh + (to_u[k] * u - to_v[k] * v);
      du += to_u[k] * v;
    }
    at<T>(partials.u + i) += du;
  });
}

/// Sum over the chunks of one column of the partial sums.
double column_total(int64_t n, int64_t columns, int64_t column, const float* workspace) {
  double total = 0;
  for (int64_t chunk = 0; chunk < reduction_chunks(n); ++chunk) total += workspace[chunk * columns + column];
  return total;
}

}  // namespace

void routing_backward(int64_t n_tokens, int64_t d, const ops::RoutingSite& site, const float* doutput,
                      const ops::RoutingGradients& gradients, float* workspace) {
  const RoutingArguments args(site);
  const int n = args.n;
  DR_CHECK(static_cast<int>(gradients.sources.size()) == n);
  std::array<float*, kMaxSources> dsource;
  for (int j = 0; j < n; ++j) dsource[j] = gradients.sources[j].data<float>();
  const float* weights = site.weights.data<float>();
  const float* inv_rms = site.inv_rms.data<float>();
  const float* dots = site.dots.data<float>();
  const float* rstd = site.rstd.data<float>();
  const float* norm_weight = site.norm_weight.data<float>();
  const bool logits_have_gradients = args.query || gradients.recency_bias.defined();

  const int64_t columns = 2 * d + 1;  // dnorm_weight | du | drecency_bias
  reduce_over_tokens(n_tokens, columns, workspace, [&](int64_t begin, int64_t end, float* partial) {
    const Partials partials{partial, partial + d};
    double dbias = 0;
    Token token;
    token.norm_weight = norm_weight;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t * d;
      token.doutput = doutput + row;
      token.rstd = rstd[t];
      token.to_next = t + 1 < end ? d : 0;
      token.mix.count = 0;
      int current = -1;  // the last source's place in the mix
      for (int j = 0; j < n; ++j) {
        const int64_t at_source = t * n + j;
        const float a = weights[at_source];
        if (a == 0.0f) continue;
        const int k = token.mix.count;
        token.dsource[k] = dsource[j] + row;
        token.weight[k] = a;
        token.scale[k] = args.scale[j];
        token.inv_rms[k] = inv_rms[at_source];
        token.dot[k] = dots[at_source];
        token.mix.add(args.source[j] + row, args.scale[j] * a);
        if (j == n - 1) current = k;
      }
      const bool routes = logits_have_gradients && token.mix.count > 1;
      if (routes)
        find_dlogits(d, token);
      else
        find_projection(d, token);
      if (routes && args.query)
        add_routed_gradients(d, token, args.query, args.key_norm, partials);
      else
        add_gradients(d, token, partials);
      if (routes && current >= 0) dbias += token.dlogit[current];
    }
    partial[2 * d] = static_cast<float>(dbias);
  });

  add_partials(n_tokens, columns, 0, d, workspace, gradients.norm_weight.data<float>());
  if (gradients.query.defined()) {
    float* dquery = gradients.query.data<float>();
    float* dkey_norm = gradients.key_norm.data<float>();
    for (int64_t i = 0; i < d; ++i) {
      const double du = column_total(n_tokens, columns, d + i, workspace);
      dquery[i] += static_cast<float>(du * args.key_norm[i]);
      dkey_norm[i] += static_cast<float>(du * args.query[i]);
    }
  }
  if (gradients.recency_bias.defined())
    gradients.recency_bias.data<float>()[0] +=
        static_cast<float>(column_total(n_tokens, columns, 2 * d, workspace));
}

}  // namespace depthroute::cpu
