// Depth routing, backward, second part: the gradients of the sources that a group of sites shares, and of the
// logits' parameters. Makes two passes over a token's columns, the second one from the cache:
//   1. the products of every site's dh with every source, which give the dlogits;
//   2. the sources' gradients and the partial sums of every site's du.
// The inner loop is over sites, so that a source is loaded once for all of them. Sources are handled one
// after another, so two of them may share a gradient.
#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/routing_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Most sites of one pass over the sources; a larger group takes several passes. Bounds the partial sums.
constexpr int kMaxSites = 8;

/// One site, and its rows of one token.
struct SharedSite {
  SharedSite(const RoutingSite& site, const Tensor& doutput_rows, const RoutingGradients& gradients)
      : args(site),
        doutput(doutput_rows.data<float>()),
        output(site.output.data<float>()),
        inverse_norm(site.inverse_norm.data<float>()),
        current(args.dropped[args.n - 1] ? output : args.source[args.n - 1]),
        norm_weight(site.norm_weight.data<float>()),
        weights(site.weights.data<float>()),
        inv_rms(site.inv_rms.data<float>()),
        dots(site.dots.data<float>()),
        rstds(site.rstd.data<float>()),
        projections(site.projection.data<float>()),
        dlogits(gradients.logits.defined() ? gradients.logits.data<float>() : nullptr),
        routes(args.query || dlogits || gradients.recency_bias.defined()) {}

  void start_token(int64_t t, int64_t d) {
    doutput_row = doutput + t * d;
    output_row = output + t * d;
    current_row = current + t * d;
    rstd = rstds[t];
    projection = projections[t];
  }
  /// rstd (g - projection h); rstd h is output / w.
  template <typename T>
  T dh(int64_t i) const {
    return rstd * (load<T>(doutput_row + i) * load<T>(norm_weight + i)) -
           projection * (load<T>(output_row + i) * load<T>(inverse_norm + i));
  }

  RoutingArguments args;
  // `current` is the last source. If that is dropped, it may hold anything, and the output takes its place:
  // any finite row may be subtracted.
  const float *doutput, *output, *inverse_norm, *current, *norm_weight;
  const float *weights, *inv_rms, *dots, *rstds, *projections;
  float* dlogits;
  bool routes;  // whether any gradient of its logits is needed
  const float *doutput_row = nullptr, *output_row = nullptr, *current_row = nullptr;
  float rstd = 0, projection = 0;
  float current_to_u = 0;  // dlogit r of the last source
  double dbias = 0;        // over the chunk
};

/// The current token: the sources any site reads, and their products and factors.
struct Token {
  int count = 0;                        // sources with a weight at any site
  std::array<int, kMaxSources> source;  // their indices at the sites
  std::array<const float*, kMaxSources> row;
  std::array<float*, kMaxSources> dsource;
  Block<1> with_dh[kMaxSources][kMaxSites];  // dh . (V - current)
  Block<1> current_with_dh[kMaxSites];       // dh . current
  std::array<std::array<SourceTerms, kMaxSites>, kMaxSources> terms;
};

using Sites = std::span<SharedSite>;

/// Pass 1: with_dh and current_with_dh.
void find_products(int64_t d, Sites sites, Token& token) {
  const size_t count = sites.size();
  for (size_t g = 0; g < count; ++g) {
    token.current_with_dh[g] = Block<1>{};
    for (int k = 0; k < token.count; ++k) token.with_dh[k][g] = Block<1>{};
  }
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    T dh[kMaxSites], current[kMaxSites];
    for (size_t g = 0; g < count; ++g) {
      current[g] = load<T>(sites[g].current_row + i);
      dh[g] = sites[g].template dh<T>(i);
      accumulate(token.current_with_dh[g], T(dh[g] * current[g]));
    }
    for (int k = 0; k < token.count; ++k) {
      prefetch<T>(token.dsource[k] + i);
      const T v = load<T>(token.row[k] + i);
      for (size_t g = 0; g < count; ++g) accumulate(token.with_dh[k][g], T(dh[g] * (v - current[g])));
    }
  });
}

/// Between the passes, for one site: dlogit_j = a_j (e_j - sum_i a_i e_i) and the factors of pass 2. The
/// products dh . V_j are nearly equal, so pass 1 has summed their differences from the last source's.
void find_terms(int64_t t, int64_t d, size_t g, SharedSite& site, Token& token) {
  const int n = site.args.n, last = n - 1;
  const float* weights = site.weights + t * n;
  const float* inv_rms = site.inv_rms + t * n;
  std::array<double, kMaxSources> e;
  double mean = 0;
  const double current_with_dh = site.routes ? total(token.current_with_dh[g]) : 0;
  for (int k = 0; k < token.count; ++k) {
    const int j = token.source[k];
    e[k] = 0;
    if (!site.routes || weights[j] == 0.0f) continue;  // its products may be anything
    const double scale = site.args.scale[j];
    e[k] = scale * total(token.with_dh[k][g]) + (scale - site.args.scale[last]) * current_with_dh;
    mean += weights[j] * e[k];
  }
  for (int k = 0; k < token.count; ++k) {
    const int j = token.source[k];
    token.terms[k][g] = weights[j] == 0.0f
                            ? SourceTerms{}
                            : source_terms(weights[j], site.args.scale[j], inv_rms[j], site.dots[t * n + j],
                                           d, site.routes ? weights[j] * (e[k] - mean) : 0.0);
  }
  const float dlogit = static_cast<float>(-mean * weights[last]);
  site.current_to_u = dlogit * inv_rms[last];
  site.dbias += dlogit;
  if (!site.dlogits) return;
  float* dlogits = site.dlogits + t * n;
  std::fill_n(dlogits, n, 0.0f);
  for (int k = 0; k < token.count; ++k) dlogits[token.source[k]] = token.terms[k][g].dlogit;
  dlogits[last] = dlogit;
}

/// Pass 2: dV_j += sum over sites of scale a_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j), and each site's
/// du += sum_j dlogit_j r_j V_j in partial[g * D ...]. Sites without a query have r = 0.
void add_shared_gradients(int64_t d, Sites sites, const Token& token, int64_t to_next, float* partial) {
  const size_t count = sites.size();
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    T dh[kMaxSites], u[kMaxSites], du[kMaxSites];
    for (size_t g = 0; g < count; ++g) {
      const SharedSite& site = sites[g];
      dh[g] = site.template dh<T>(i);
      u[g] = site.args.query ? T(load<T>(site.args.query + i) * load<T>(site.args.key_norm + i)) : T{};
      du[g] = site.current_to_u != 0.0f ? T(site.current_to_u * load<T>(site.current_row + i)) : T{};
      prefetch<T>(site.doutput_row + to_next + i);
      prefetch<T>(site.output_row + to_next + i);
    }
    for (int k = 0; k < token.count; ++k) {
      prefetch<T>(token.row[k] + to_next + i);
      const T v = load<T>(token.row[k] + i);
      T dv{};
      float to_v = 0;
      for (size_t g = 0; g < count; ++g) {
        const SourceTerms& terms = token.terms[k][g];
        dv += terms.to_dh * dh[g] + terms.to_u * u[g];
        du[g] += terms.to_u * v;
        to_v += terms.to_v;
      }
      at<T>(token.dsource[k] + i) += dv - to_v * v;
    }
    for (size_t g = 0; g < count; ++g) at<T>(partial + static_cast<int64_t>(g) * d + i) += du[g];
  });
}

/// One pass over the sources for at most kMaxSites sites.
void backward_of(std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                 std::span<const Tensor> dsources, std::span<const float> betas,
                 std::span<const RoutingGradients> gradients, float* partials) {
  const int64_t n_tokens = doutputs[0].rows(), d = doutputs[0].cols();
  const int shared = static_cast<int>(dsources.size());
  std::vector<SharedSite> prepared;
  bool any_routes = false;
  for (size_t g = 0; g < sites.size(); ++g) {
    prepared.emplace_back(sites[g], doutputs[g], gradients[g]);
    any_routes |= prepared[g].routes;
  }
  const int64_t columns = static_cast<int64_t>(sites.size()) * (d + 1);  // each site's du, then the dbias
  reduce_over_tokens(n_tokens, columns, partials, [&](int64_t begin, int64_t end, float* partial) {
    std::vector<SharedSite> mine = prepared;
    // Reused, because it is too large to clear for each token.
    const auto token = std::make_unique<Token>();
    for (int64_t t = begin; t < end; ++t) {
      for (SharedSite& site : mine) site.start_token(t, d);
      token->count = 0;
      for (int j = 0; j < shared; ++j) {
        if (!betas.empty() && betas[j] == 0.0f) std::fill_n(dsources[j].data<float>() + t * d, d, 0.0f);
        const auto reads = [&](const SharedSite& site) { return site.weights[t * site.args.n + j] != 0.0f; };
        if (!std::any_of(mine.begin(), mine.end(), reads)) continue;
        const int k = token->count++;
        token->source[k] = j;
        token->row[k] = mine[0].args.source[j] + t * d;
        token->dsource[k] = dsources[j].data<float>() + t * d;
      }
      if (any_routes) find_products(d, mine, *token);
      for (size_t g = 0; g < mine.size(); ++g) find_terms(t, d, g, mine[g], *token);
      add_shared_gradients(d, mine, *token, t + 1 < end ? d : 0, partial);
    }
    for (size_t g = 0; g < mine.size(); ++g)
      partial[columns - static_cast<int64_t>(g) - 1] = static_cast<float>(mine[g].dbias);
  });
  for (size_t g = 0; g < sites.size(); ++g) {
    const int64_t site = static_cast<int64_t>(g);
    add_query_gradients(n_tokens, d, columns, site * d, partials, sites[g], gradients[g]);
    if (gradients[g].recency_bias.defined())
      gradients[g].recency_bias.data<float>()[0] +=
          static_cast<float>(column_total(n_tokens, columns, columns - site - 1, partials));
  }
}

}  // namespace

int64_t routing_backward_workspace(Device, int64_t hidden_size) {
  return reduction_floats(kMaxSites * (hidden_size + 1));
}

void routing_backward_shared(Stream, std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                             std::span<const Tensor> dsources, std::span<const float> betas,
                             std::span<const RoutingGradients> gradients, const Tensor& workspace) {
  for (size_t first = 0; first < sites.size(); first += kMaxSites) {
    const size_t count = std::min<size_t>(kMaxSites, sites.size() - first);
    backward_of(sites.subspan(first, count), doutputs.subspan(first, count), dsources,
                first == 0 ? betas : std::span<const float>{}, gradients.subspan(first, count),
                workspace.data<float>());
  }
}

}  // namespace depthroute::cpu
