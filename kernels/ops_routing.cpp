#include <algorithm>
#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/op_checks.h"
#include "kernels/ops.h"
#include "kernels/profile.h"

namespace depthroute::ops {

namespace {

struct SiteShape {
  int64_t n, d, sources;
};

SiteShape require_site(const char* op, Stream stream, const RoutingSite& site) {
  DR_CHECK_MSG(!site.sources.empty(), "routing: a site has at least one source");
  const int64_t n = site.sources[0].rows();
  const int64_t d = site.sources[0].cols();
  const int64_t sources = static_cast<int64_t>(site.sources.size());
  for (const Tensor& source : site.sources) require(op, "source", stream, source, {n, d});
  DR_CHECK_MSG(site.query.defined() == site.key_norm.defined(), "routing: query and key_norm go together");
  if (site.query.defined()) {
    require(op, "query", stream, site.query, {d});
    require(op, "key_norm", stream, site.key_norm, {d});
  }
  if (site.recency_bias.defined()) require(op, "recency_bias", stream, site.recency_bias, {1});
  DR_CHECK_MSG(site.offset.empty() || site.offset.size() == site.sources.size(),
               "routing: one offset per source");
  DR_CHECK_MSG(site.scale.empty() || site.scale.size() == site.sources.size(),
               "routing: one scale per source");
  const bool all_dropped =
      !site.offset.empty() &&
      std::all_of(site.offset.begin(), site.offset.end(), [](float o) { return std::isinf(o) && o < 0; });
  DR_CHECK_MSG(!all_dropped, "routing: every source of a site is dropped");
  require(op, "norm_weight", stream, site.norm_weight, {d});
  require(op, "weights", stream, site.weights, {n, sources});
  require(op, "inv_rms", stream, site.inv_rms, {n, sources});
  require(op, "dots", stream, site.dots, {n, sources});
  require(op, "rstd", stream, site.rstd, {n});
  return {n, d, sources};
}

}  // namespace

void routing_forward(Stream stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const ProfileScope profile("routing_forward");
  constexpr const char* kOp = "routing_forward";
  const SiteShape shape = require_site(kOp, stream, site);
  if (add.defined()) require(kOp, "add", stream, add, {shape.n, shape.d});
  require(kOp, "output", stream, output, {shape.n, shape.d});
  dispatch(stream, [&] {
    cpu::routing_forward(shape.n, shape.d, site, add.defined() ? add.data<float>() : nullptr,
                         output.data<float>());
  });
}

void routing_backward(Stream stream, const RoutingSite& site, const Tensor& doutput,
                      const RoutingGradients& gradients, const Tensor& workspace) {
  const ProfileScope profile("routing_backward");
  constexpr const char* kOp = "routing_backward";
  const SiteShape shape = require_site(kOp, stream, site);
  require(kOp, "doutput", stream, doutput, {shape.n, shape.d});
  DR_CHECK_MSG(gradients.sources.size() == site.sources.size(), "routing: one gradient per source");
  for (size_t j = 0; j < gradients.sources.size(); ++j) {
    require(kOp, "gradient of a source", stream, gradients.sources[j], {shape.n, shape.d});
    for (size_t i = 0; i < j; ++i)
      DR_CHECK_MSG(site.sources[i].pointer != site.sources[j].pointer ||
                       gradients.sources[i].pointer == gradients.sources[j].pointer,
                   "routing: the same source twice has the same gradient twice");
  }
  DR_CHECK_MSG(gradients.query.defined() == gradients.key_norm.defined() &&
                   (!gradients.query.defined() || site.query.defined()),
               "routing: gradients of query and key_norm go together, and only with the site's");
  if (gradients.query.defined()) {
    require(kOp, "gradient of query", stream, gradients.query, {shape.d});
    require(kOp, "gradient of key_norm", stream, gradients.key_norm, {shape.d});
  }
  if (gradients.recency_bias.defined())
    require(kOp, "gradient of recency_bias", stream, gradients.recency_bias, {1});
  require(kOp, "gradient of norm_weight", stream, gradients.norm_weight, {shape.d});
  require_workspace(kOp, stream, workspace, reduction_workspace(2 * shape.d + 1));
  dispatch(stream, [&] {
    cpu::routing_backward(shape.n, shape.d, site, doutput.data<float>(), gradients, workspace.data<float>());
  });
}

}  // namespace depthroute::ops
