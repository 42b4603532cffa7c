// Costs of depth routing. Weights that are exactly 0 or 1 let the kernels skip reads; a site with several
// sources has none of them, except for sources that are dropped.
#include "kernels/cost/traffic.h"
#include "kernels/cuda/routing_groups.h"
#include "kernels/cuda/work_split.h"
#include "kernels/op_table.h"

namespace depthroute::cost {

namespace {
constexpr int64_t kFloat = sizeof(float);

bool is_identity(const RoutingSite& site) { return site.sources.size() == 1; }
}  // namespace

void routing_forward(Stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  if (output.numel() == 0) return;
  const Tensor& current = site.sources.back();
  Traffic traffic("routing forward");
  for (size_t j = 0; j < site.sources.size(); ++j)
    if (!site.drops(j)) traffic.read(site.sources[j]);
  if (add.defined()) traffic.read(add).update(current);
  if (site.given.defined()) {
    traffic.read(site.given);
  } else {
    traffic.read(site.query).read(site.key_norm);
    if (!site.drops(site.sources.size() - 1)) traffic.read(site.recency_bias);
  }
  traffic.read(site.norm_weight).write(site.weights).write(site.inv_rms).write(site.dots).write(site.rstd);
  if (site.mix.pointer != current.pointer) traffic.write(site.mix);
  traffic.write(output).add();
}

void routing_shares(Stream, const RoutingSite& site, const Tensor& norms, const Tensor& projections,
                    const Tensor& cosines) {
  if (norms.numel() == 0) return;
  Traffic traffic("routing shares");
  for (size_t j = 0; j < site.sources.size(); ++j)
    if (!site.drops(j)) traffic.read(site.sources[j]);
  traffic.read(site.weights).write(norms).write(projections).write(cosines).add();
}

int64_t routing_backward_workspace(Device, int64_t hidden_size) {
  return cuda::group_workspace_floats(hidden_size);
}

void routing_backward(Stream stream, const RoutingSite& site, const Tensor& doutput, const Tensor& dcurrent,
                      const RoutingGradients& gradients, const Tensor&) {
  const int64_t n_tokens = doutput.rows(), d = doutput.cols(), chunks = cuda::routing_chunks(n_tokens);
  if (n_tokens == 0) return;
  Traffic traffic("routing backward");
  // Of [N,n] tensors, the last column.
  traffic.read(doutput).read(site.mix).read(site.norm_weight).read(site.rstd).read(n_tokens * kFloat);
  if (!site.drops(site.sources.size() - 1)) {
    traffic.update(dcurrent);
    if (site.query.defined() && !is_identity(site))
      traffic.read(site.sources.back()).read(site.query).read(site.key_norm).read(2 * n_tokens * kFloat);
  }
  traffic.write(site.projection).write(chunks * d * kFloat).add();
  add_partials(chunks, d);
  if (is_identity(site) && gradients.logits.defined()) zero(stream, gradients.logits);
}

namespace {

/// Of one launch, per warp and token: about 1,500, and 1,200 per chunk of 4 sources (disassembly of the kernel
/// for 8 sites in bf16: 3,900 at two chunks).
double shared_instructions(int64_t n_tokens, int64_t warps, int64_t sources) {
  const int64_t per_warp = 1500 + 1200 * div_ceil(sources, int64_t{4});
  return static_cast<double>(n_tokens * warps) * static_cast<double>(per_warp);
}

void add_shared_launch(std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                       std::span<const Tensor> dsources, std::span<const RoutingGradients> gradients) {
  const int64_t n_tokens = doutputs[0].rows(), d = doutputs[0].cols();
  const int64_t chunks = cuda::routing_chunks(n_tokens);
  const cuda::GroupShape shape = cuda::group_shape(d);
  const size_t last = sites[0].sources.size() - 1;
  Traffic traffic("routing backward, shared");
  int64_t count = 0;
  std::vector<const void*> updated;
  for (size_t j = 0; j < dsources.size(); ++j) {
    if (std::all_of(sites.begin(), sites.end(), [&](const RoutingSite& s) { return s.drops(j); })) continue;
    ++count;
    traffic.read(sites[0].sources[j]).read(dsources[j]);
    if (std::find(updated.begin(), updated.end(), dsources[j].pointer) != updated.end()) continue;
    updated.push_back(dsources[j].pointer);
    traffic.write(dsources[j]);
  }
  for (size_t g = 0; g < sites.size(); ++g) {
    const RoutingSite& site = sites[g];
    traffic.read(doutputs[g]).read(site.mix).read(site.norm_weight).read(site.query).read(site.key_norm);
    if (!site.drops(last)) traffic.read(site.sources[last]);
    traffic.read(site.rstd).read(site.projection);
    // weights, inv_rms and dots of the shared sources; weights and inv_rms of the current state.
    traffic.read(n_tokens * (3 * count + 2) * kFloat);
    if (gradients[g].logits.defined()) traffic.write(n_tokens * (count + 1) * kFloat);
  }
  traffic.write(chunks * (d + 1) * shape.sites * kFloat)
      .instructions(shared_instructions(n_tokens, shape.threads / 32, count))
      .add();

  Traffic queries("sums over tokens");
  for (size_t g = 0; g < sites.size(); ++g) {
    queries.read(chunks * (d + 1) * kFloat).update(gradients[g].recency_bias);
    if (gradients[g].query.defined())
      queries.read(sites[g].query)
          .read(sites[g].key_norm)
          .update(gradients[g].query)
          .update(gradients[g].key_norm);
  }
  queries.add();
}

}  // namespace

void routing_backward_shared(Stream stream, std::span<const RoutingSite> sites,
                             std::span<const Tensor> doutputs, std::span<const Tensor> dsources,
                             std::span<const RoutingGradients> gradients, const Tensor&) {
  if (doutputs[0].rows() == 0) return;
  const size_t most = static_cast<size_t>(cuda::group_shape(doutputs[0].cols()).sites);
  for (size_t first = 0, count = 0; first < sites.size(); first += count) {
    count = cuda::sites_of_launch(sites.subspan(first), most);
    for (const RoutingGradients& to : gradients.subspan(first, count))
      if (to.logits.defined()) zero(stream, to.logits);
    add_shared_launch(sites.subspan(first, count), doutputs.subspan(first, count), dsources,
                      gradients.subspan(first, count));
  }
}

}  // namespace depthroute::cost
