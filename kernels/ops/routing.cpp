#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

namespace {

/// N, D, n and the dtype of the activations of one call.
struct SiteShape {
  int64_t n, d, sources;
  DType act;
};

/// One unscaled source with a weight of 1: the source is the mix.
bool is_identity(const RoutingSite& site) {
  return site.sources.size() == 1 && site.scale_of(0) == 1.0f && !site.given.defined();
}

void require_given(const char* op, Stream stream, const RoutingSite& site, const SiteShape& shape) {
  DR_CHECK_MSG(site.given.shape.rank() == 2 && site.given.rows() > 0 && shape.n % site.given.rows() == 0,
               "routing: given weights have N rows, or a divisor of N");
  require(op, "given", stream, site.given, {site.given.rows(), shape.sources});
}

/// Checks what a read in two phases requires.
void require_partial(const char* op, Stream stream, const RoutingSite& site, const SiteShape& shape) {
  require(op, "partial", stream, site.partial, {shape.n, shape.d}, shape.act);
  require(op, "partial_lse", stream, site.partial_lse, {shape.n});
  DR_CHECK_MSG(shape.sources > 1, "routing: a read in two phases has a finished source");
  DR_CHECK_MSG(!site.given.defined(), "routing: given weights are read in one phase");
  for (const Tensor& source : site.sources) {
    DR_CHECK_MSG(source.rows() == shape.n, "routing: replaced sources are read in one phase");
    DR_CHECK_MSG(source.pointer != site.partial.pointer, "routing: the partial mix is not a source");
  }
}

/// Checks that a group's sites read the same sources but for the last.
void require_shared_sources(std::span<const RoutingSite> sites) {
  const std::span<const Tensor> sources = sites[0].sources;
  for (const RoutingSite& site : sites) {
    DR_CHECK_MSG(site.sources.size() == sources.size(), "routing: a group's sites have equal sources");
    for (size_t j = 0; j + 1 < sources.size(); ++j)
      DR_CHECK_MSG(site.sources[j].pointer == sources[j].pointer,
                   "routing: a group's sites share all sources but the last");
  }
}

/// Checks a site of N tokens; `row` is any tensor [any, D] of the call that has the activations' type.
SiteShape require_site(const char* op, Stream stream, const RoutingSite& site, int64_t n, const Tensor& row) {
  DR_CHECK_MSG(!site.sources.empty(), "routing: a site has at least one source");
  const SiteShape shape = {n, row.cols(), static_cast<int64_t>(site.sources.size()),
                           activation_type(op, "source, input or output", stream, row)};
  for (const Tensor& source : site.sources) {
    DR_CHECK_MSG(source.shape.rank() == 2 && source.rows() > 0 && shape.n % source.rows() == 0,
                 "routing: a source has N rows, or a divisor of N where it is replaced");
    require(op, "source", stream, source, {source.rows(), shape.d}, shape.act);
  }
  DR_CHECK_MSG(site.query.defined() == site.key_norm.defined(), "routing: query and key_norm go together");
  if (site.query.defined()) {
    require(op, "query", stream, site.query, {shape.d});
    require(op, "key_norm", stream, site.key_norm, {shape.d});
  }
  if (site.recency_bias.defined()) require(op, "recency_bias", stream, site.recency_bias, {1});
  DR_CHECK_MSG(site.offset.empty() || site.offset.size() == site.sources.size(),
               "routing: one offset per source");
  DR_CHECK_MSG(site.scale.empty() || site.scale.size() == site.sources.size(),
               "routing: one scale per source");
  if (site.given.defined()) require_given(op, stream, site, shape);
  size_t kept = 0;
  for (size_t j = 0; j < site.sources.size(); ++j) kept += site.drops(j) ? 0 : 1;
  DR_CHECK_MSG(kept > 0, "routing: every source of a site is dropped");
  require(op, "norm_weight", stream, site.norm_weight, {shape.d});
  require(op, "weights", stream, site.weights, {shape.n, shape.sources});
  require(op, "inv_rms", stream, site.inv_rms, {shape.n, shape.sources});
  require(op, "dots", stream, site.dots, {shape.n, shape.sources});
  require(op, "rstd", stream, site.rstd, {shape.n});
  if (site.inverse_norm.defined()) require(op, "inverse_norm", stream, site.inverse_norm, {shape.d});
  if (site.projection.defined()) require(op, "projection", stream, site.projection, {shape.n});
  DR_CHECK_MSG(site.partial.defined() == site.partial_lse.defined(),
               "routing: partial and partial_lse go together");
  if (site.partial.defined()) require_partial(op, stream, site, shape);
  return shape;
}

/// Checks what both parts of backward require of a site and its gradients.
SiteShape require_backward(const char* op, Stream stream, const RoutingSite& site, const Tensor& doutput,
                           const RoutingGradients& gradients) {
  require(op, "doutput", stream, doutput, {doutput.rows(), doutput.cols()},
          activation_type(op, "doutput", stream, doutput));
  const SiteShape shape = require_site(op, stream, site, doutput.rows(), doutput);
  for (const Tensor& source : site.sources)
    DR_CHECK_MSG(source.rows() == shape.n, "routing: replaced sources have no gradients");
  DR_CHECK_MSG(!site.given.defined(), "routing: given weights have no gradients");
  DR_CHECK_MSG(site.output.defined() ? site.inverse_norm.defined() : is_identity(site),
               "routing: gradients need the output and inverse_norm, unless the site is the identity");
  if (site.output.defined()) require(op, "kept output", stream, site.output, {shape.n, shape.d}, shape.act);
  DR_CHECK_MSG(gradients.query.defined() == gradients.key_norm.defined() &&
                   (!gradients.query.defined() || site.query.defined()),
               "routing: gradients of query and key_norm go together, and only with the site's");
  if (gradients.query.defined()) {
    require(op, "gradient of query", stream, gradients.query, {shape.d});
    require(op, "gradient of key_norm", stream, gradients.key_norm, {shape.d});
  }
  if (gradients.recency_bias.defined())
    require(op, "gradient of recency_bias", stream, gradients.recency_bias, {1});
  if (gradients.norm_weight.defined())
    require(op, "gradient of norm_weight", stream, gradients.norm_weight, {shape.d});
  if (gradients.logits.defined())
    require(op, "gradient of logits", stream, gradients.logits, {shape.n, shape.sources});
  return shape;
}

}  // namespace

bool routing_read_finished_pays(int64_t sources, int64_t sites) {
  const int64_t finished = sources - 1;
  return sites * finished > finished + 2 * sites;
}

void routing_read_finished(Stream stream, std::span<const RoutingSite> sites) {
  const ProfileScope profile("routing_read_finished");
  constexpr const char* kOp = "routing_read_finished";
  DR_CHECK_MSG(!sites.empty(), "routing: a first phase has at least one site");
  for (const RoutingSite& site : sites) {
    DR_CHECK_MSG(site.partial.defined(), "routing: a first phase writes partial and partial_lse");
    DR_CHECK_MSG(site.partial.shape == sites[0].partial.shape, "routing: a group's sites have equal shapes");
    require_site(kOp, stream, site, site.partial.rows(), site.partial);
  }
  require_shared_sources(sites);
  op_table(stream.device).routing_read_finished(stream, sites);
}

void routing_forward(Stream stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const ProfileScope profile("routing_forward");
  constexpr const char* kOp = "routing_forward";
  require(kOp, "output", stream, output, {output.rows(), output.cols()},
          activation_type(kOp, "output", stream, output));
  const SiteShape shape = require_site(kOp, stream, site, output.rows(), output);
  if (add.defined()) {
    require(kOp, "add", stream, add, {shape.n, shape.d}, shape.act);
    const Tensor& current = site.sources.back();
    DR_CHECK_MSG(current.rows() == shape.n, "routing: nothing is added to a replaced source");
    for (size_t j = 0; site.partial.defined() && j + 1 < site.sources.size(); ++j)
      DR_CHECK_MSG(site.sources[j].pointer != current.pointer,
                   "routing: nothing is added to a source that the first phase has read");
  }
  op_table(stream.device).routing_forward(stream, site, add, output);
}

void routing_shares(Stream stream, const RoutingSite& site, const Tensor& norms, const Tensor& projections,
                    const Tensor& cosines) {
  const ProfileScope profile("routing_shares");
  constexpr const char* kOp = "routing_shares";
  DR_CHECK_MSG(!site.sources.empty(), "routing: a site has at least one source");
  const SiteShape shape = require_site(kOp, stream, site, norms.rows(), site.sources[0]);
  require(kOp, "norms", stream, norms, {shape.n, shape.sources});
  require(kOp, "projections", stream, projections, {shape.n, shape.sources});
  require(kOp, "cosines", stream, cosines, {shape.n, shape.sources});
  op_table(stream.device).routing_shares(stream, site, norms, projections, cosines);
}

int64_t routing_backward_workspace(Device device, int64_t hidden_size) {
  return op_table(device).routing_backward_workspace(device, hidden_size);
}

void routing_backward(Stream stream, const RoutingSite& site, const Tensor& doutput, const Tensor& add,
                      float beta, const Tensor& dcurrent, const RoutingGradients& gradients,
                      const Tensor& workspace) {
  const ProfileScope profile("routing_backward");
  constexpr const char* kOp = "routing_backward";
  const SiteShape shape = require_backward(kOp, stream, site, doutput, gradients);
  require(kOp, "gradient of the current state", stream, dcurrent, {shape.n, shape.d}, shape.act);
  if (add.defined()) {
    require(kOp, "add", stream, add, {shape.n, shape.d}, shape.act);
    DR_CHECK_MSG(add.pointer != dcurrent.pointer, "routing: beta = 1 says that dcurrent is added to");
  }
  DR_CHECK_MSG(beta == 0.0f || beta == 1.0f, "routing: beta is 0 or 1");
  require_workspace(kOp, stream, workspace, reduction_workspace(stream.device, shape.d));
  op_table(stream.device).routing_backward(stream, site, doutput, add, beta, dcurrent, gradients, workspace);
}

void routing_backward_shared(Stream stream, std::span<const RoutingSite> sites,
                             std::span<const Tensor> doutputs, std::span<const Tensor> dsources,
                             std::span<const float> betas, std::span<const RoutingGradients> gradients,
                             const Tensor& workspace) {
  const ProfileScope profile("routing_backward_shared");
  constexpr const char* kOp = "routing_backward_shared";
  DR_CHECK_MSG(!sites.empty() && doutputs.size() == sites.size() && gradients.size() == sites.size(),
               "routing: one doutput and one set of gradients per site");
  const std::span<const Tensor> sources = sites[0].sources;
  DR_CHECK_MSG(!sources.empty() && dsources.size() == sources.size() - 1,
               "routing: one gradient per source but the last");
  const DType act = activation_type(kOp, "doutput", stream, doutputs[0]);
  const Shape rows = doutputs[0].shape;
  for (size_t g = 0; g < sites.size(); ++g) {
    require(kOp, "doutput", stream, doutputs[g], rows, act);
    require_backward(kOp, stream, sites[g], doutputs[g], gradients[g]);
    DR_CHECK_MSG(sites[g].projection.defined(), "routing: routing_backward() left no projection");
  }
  require_shared_sources(sites);
  DR_CHECK_MSG(betas.empty() || betas.size() == dsources.size(),
               "routing: one beta per gradient of a source");
  for (size_t j = 0; j < dsources.size(); ++j) {
    require(kOp, "gradient of a source", stream, dsources[j], rows, act);
    const float beta = betas.empty() ? 1.0f : betas[j];
    DR_CHECK_MSG(beta == 0.0f || beta == 1.0f, "routing: beta is 0 or 1");
    for (size_t i = 0; i < j; ++i)
      DR_CHECK_MSG(beta == 1.0f || dsources[i].pointer != dsources[j].pointer,
                   "routing: a gradient is written once and then added to");
    for (size_t i = 0; i < j; ++i)
      DR_CHECK_MSG((sources[i].pointer == sources[j].pointer) <= (dsources[i].pointer == dsources[j].pointer),
                   "routing: the same source twice has the same gradient twice");
  }
  require_workspace(kOp, stream, workspace, routing_backward_workspace(stream.device, rows[1]));
  if (dsources.empty()) return;
  op_table(stream.device)
      .routing_backward_shared(stream, sites, doutputs, dsources, betas, gradients, workspace);
}

}  // namespace depthroute::ops
