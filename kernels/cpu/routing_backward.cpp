// Depth routing, backward, first part: the gradients of the current state and of norm_weight. Makes two
// passes over a token's columns, the second one from the cache:
//   1. the products of g, h and V - h (V the current state), which give the projection and V's dlogit;
//   2. dh, the gradient of V, and the partial sums of norm_weight's gradient.
// Each pass prefetches the rows that the next one reads first.
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/routing_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// The rows of one token. With g = doutput * norm_weight, the gradient of h is dh = rstd (g - projection h).
/// kFinds: h is found from the output; otherwise it is the source itself.
template <bool kFinds>
struct Rows {
  const float* doutput;
  const float* norm_weight;
  const float* kept;          // the output, or h
  const float* inverse_norm;  // with kFinds
  float rms;                  // of h
  const float* current;       // V
  float* dcurrent;
  int64_t to_next;  // from this token's rows to the next one's, 0 at the end

  template <typename T>
  T norm_gradient(int64_t i) const {
    return load<T>(doutput + i) * load<T>(norm_weight + i);
  }
  template <typename T>
  T mix(int64_t i) const {
    if constexpr (kFinds) return rms * (load<T>(kept + i) * load<T>(inverse_norm + i));
    return load<T>(kept + i);
  }
  template <typename T>
  void prefetch_next(int64_t i) const {
    prefetch<T>(doutput + to_next + i);
    prefetch<T>(kept + to_next + i);
  }
};

/// g . h and the projection; if V's logit has a gradient, also dh . (V - h) and dh . h.
struct Products {
  double g_dot_h = 0, projection = 0, with_dh = 0, mix_with_dh = 0;
};

template <bool kFinds>
Products projection_only(int64_t d, float rstd, const Rows<kFinds>& rows) {
  Products p;
  Block<1> g_dot_h{};
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    accumulate(g_dot_h, T(rows.template norm_gradient<T>(i) * rows.template mix<T>(i)));
    prefetch<T>(rows.dcurrent + i);
  });
  p.g_dot_h = total(g_dot_h);
  p.projection = static_cast<double>(rstd) * rstd * p.g_dot_h / static_cast<double>(d);
  return p;
}

/// Products with V - h instead of V: the logit's gradient is a difference of them, and the states of one
/// residual stream are close to their mix.
template <bool kFinds>
Products all_products(int64_t d, float rstd, const Rows<kFinds>& rows) {
  Products p;
  Block<1> g_dot_h{}, h_dot_h{}, g_dot_v{}, h_dot_v{};
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T g = rows.template norm_gradient<T>(i), h = rows.template mix<T>(i);
    const T v = load<T>(rows.current + i) - h;
    accumulate(g_dot_h, T(g * h));
    accumulate(h_dot_h, T(h * h));
    accumulate(g_dot_v, T(g * v));
    accumulate(h_dot_v, T(h * v));
    prefetch<T>(rows.dcurrent + i);
  });
  p.g_dot_h = total(g_dot_h);
  p.projection = static_cast<double>(rstd) * rstd * p.g_dot_h / static_cast<double>(d);
  p.with_dh = rstd * (total(g_dot_v) - p.projection * total(h_dot_v));
  p.mix_with_dh = rstd * (p.g_dot_h - p.projection * total(h_dot_h));
  return p;
}

/// dV = beta dV + add, before the site's own share.
void start_gradient(int64_t d, const float* add, float beta, float* dcurrent) {
  if (beta == 0.0f) {
    if (add) {
      std::copy_n(add, d, dcurrent);
    } else {
      std::fill_n(dcurrent, d, 0.0f);
    }
  } else if (add) {
    for_columns<2>(0, d, [&]<typename T>(int64_t i) { at<T>(dcurrent + i) += load<T>(add + i); });
  }
}

/// dnorm_weight += doutput rstd h; dV += scale a dh.
template <bool kFinds>
void add_gradients(int64_t d, float rstd, float projection, float to_dh, const Rows<kFinds>& rows,
                   float* dnorm_weight) {
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T h = rows.template mix<T>(i);
    at<T>(dnorm_weight + i) += load<T>(rows.doutput + i) * (rstd * h);
    if (to_dh != 0.0f)
      at<T>(rows.dcurrent + i) += (to_dh * rstd) * (rows.template norm_gradient<T>(i) - projection * h);
    rows.template prefetch_next<T>(i);
  });
}

/// The same if V's logit has a gradient: dV += scale a dh + dlogit (r u - (r^3 c / D) V).
template <bool kFinds>
void add_routed_gradients(int64_t d, float rstd, float projection, const SourceTerms& terms,
                          const RoutingArguments& args, const Rows<kFinds>& rows, float* dnorm_weight) {
  for_columns<2>(0, d, [&]<typename T>(int64_t i) {
    const T h = rows.template mix<T>(i), v = load<T>(rows.current + i);
    at<T>(dnorm_weight + i) += load<T>(rows.doutput + i) * (rstd * h);
    const T dh = rstd * (rows.template norm_gradient<T>(i) - projection * h);
    const T u = load<T>(args.query + i) * load<T>(args.key_norm + i);
    at<T>(rows.dcurrent + i) += terms.to_dh * dh + (terms.to_u * u - terms.to_v * v);
    rows.template prefetch_next<T>(i);
    prefetch<T>(rows.current + rows.to_next + i);
  });
}

template <bool kFinds>
void backward_of(const RoutingSite& site, const Tensor& doutput, const Tensor& add, float beta,
                 const Tensor& dcurrent, const RoutingGradients& gradients, const Tensor& workspace) {
  const RoutingArguments args(site);
  const int n = args.n, last = n - 1;
  const int64_t n_tokens = doutput.rows(), d = doutput.cols();
  const float* const doutput_rows = doutput.data<float>();
  float *const dcurrent_rows = dcurrent.data<float>(), *const partials = workspace.data<float>();
  const float* const add_rows = add.defined() ? add.data<float>() : nullptr;
  const float* weights = site.weights.data<float>();
  const float* inv_rms = site.inv_rms.data<float>();
  const float* dots = site.dots.data<float>();
  const float* rstd = site.rstd.data<float>();
  const float* const kept = kFinds ? site.output.data<float>() : args.source[0];
  const float* const inverse_norm = kFinds ? site.inverse_norm.data<float>() : nullptr;
  const float* norm_weight = site.norm_weight.data<float>();
  float* projection = site.projection.defined() ? site.projection.data<float>() : nullptr;

  reduce_over_tokens(n_tokens, d, partials, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t t = begin; t < end; ++t) {
      const Rows<kFinds> rows = {.doutput = doutput_rows + t * d,
                                 .norm_weight = norm_weight,
                                 .kept = kept + t * d,
                                 .inverse_norm = inverse_norm,
                                 .rms = 1.0F / rstd[t],
                                 .current = args.source[last] + t * d,
                                 .dcurrent = dcurrent_rows + t * d,
                                 .to_next = t + 1 < end ? d : 0};
      start_gradient(d, add_rows ? add_rows + t * d : nullptr, beta, rows.dcurrent);
      const float weight = weights[t * n + last];
      // With a weight of 0, the source may hold anything. With a weight of 1, the other sources have none,
      // and no logit of the site has a gradient: exactly 0, not what rounding would give.
      const bool routes = args.query && weight != 0.0f && weight != 1.0f;
      const Products p = routes ? all_products(d, rstd[t], rows) : projection_only(d, rstd[t], rows);
      const double scale = args.scale[last];
      const SourceTerms terms =
          source_terms(weight, args.scale[last], inv_rms[t * n + last], dots[t * n + last], d,
                       weight * (scale * p.with_dh + (scale - 1) * p.mix_with_dh));
      if (projection) projection[t] = static_cast<float>(p.projection);
      if (routes)
        add_routed_gradients(d, rstd[t], static_cast<float>(p.projection), terms, args, rows, partial);
      else
        add_gradients(d, rstd[t], static_cast<float>(p.projection), terms.to_dh, rows, partial);
    }
  });
  if (gradients.norm_weight.defined())
    add_partials(n_tokens, d, 0, d, partials, gradients.norm_weight.data<float>());
  if (n == 1 && gradients.logits.defined()) zero({}, gradients.logits);
}

}  // namespace

void routing_backward(Stream, const RoutingSite& site, const Tensor& doutput, const Tensor& add, float beta,
                      const Tensor& dcurrent, const RoutingGradients& gradients, const Tensor& workspace) {
  const auto backward = site.output.defined() ? backward_of<true> : backward_of<false>;
  backward(site, doutput, add, beta, dcurrent, gradients, workspace);
}

}  // namespace depthroute::cpu
