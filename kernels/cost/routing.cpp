// Costs of depth routing. Weights that are exactly 0 or 1 let the kernels skip reads; a site with several
// sources has none of them, except for sources that are dropped.
#include <array>

#include "kernels/cost/traffic.h"
#include "kernels/cuda/routing_groups.h"
#include "kernels/cuda/work_split.h"
#include "kernels/op_table.h"

namespace depthroute::cost {

namespace {
constexpr int64_t kFloat = sizeof(float);

// Instructions of a warp per token, per token and 4 sources, and per token and a last step of 1 or 2 sources: counted in
// sm_90a's code of the kernels in bf16, along the path that a warp takes. Those over groups for 8 sites at D = 1024, where
// a warp takes its own part of phases that are divided among warps, and an eighth of those that one warp does for all.
struct Instructions {
  int64_t once, per_step, per_half;
};
constexpr Instructions kRead = {1050, 1400, 1400};
constexpr Instructions kFinished = {260, 490, 300};
constexpr Instructions kShared = {825, 900, 520};

bool is_identity(const RoutingSite& site) { return site.sources.size() == 1; }

/// The second of two phases.
void add_merge(const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const int64_t n_tokens = output.rows(), finished = static_cast<int64_t>(site.sources.size()) - 1;
  const bool reads = !site.drops(site.sources.size() - 1);
  Traffic traffic("routing merge");
  if (reads) traffic.read(site.sources.back()).read(site.query).read(site.key_norm);
  if (add.defined()) traffic.read(add).update(site.sources.back());
  traffic.read(site.partial).read(site.partial_lse).read(site.recency_bias).read(site.norm_weight);
  // Weights of finished blocks are rescaled; of inv_rms and dots, the last column is written.
  traffic.read(n_tokens * finished * kFloat).write(site.weights).write(2 * n_tokens * kFloat);
  traffic.write(site.rstd).write(site.inverse_norm).write(output).add();
}

int64_t group_warps(int64_t d) { return cuda::group_shape(d).threads / 32; }

/// Of a launch with `warps` per token. share_of_sites: of the sites that registers have room for; a quarter of the
/// instructions does not depend on them.
double instructions(int64_t n_tokens, int64_t warps, int64_t sources, const Instructions& of,
                    double share_of_sites = 1) {
  const int64_t rest = sources % 4, last = rest == 0 ? 0 : (rest <= 2 ? of.per_half : of.per_step);
  return static_cast<double>(n_tokens * warps) * (0.25 + 0.75 * share_of_sites) *
         static_cast<double>(of.once + of.per_step * (sources / 4) + last);
}

}  // namespace

void routing_read_finished(Stream, std::span<const RoutingSite> all) {
  const int64_t n_tokens = all[0].partial.rows(), d = all[0].partial.cols();
  const int64_t finished = static_cast<int64_t>(all[0].sources.size()) - 1;
  if (n_tokens == 0) return;
  for (size_t first = 0, count = 0; first < all.size(); first += count) {
    count = cuda::sites_of_launch(all.subspan(first), d, cuda::is_altered);
    Traffic traffic("routing of finished blocks");
    const std::span<const RoutingSite> sites = all.subspan(first, count);
    for (int64_t j = 0; j < finished; ++j)
      if (!sites[0].drops(j)) traffic.read(sites[0].sources[j]);
    for (const RoutingSite& site : sites) {
      traffic.read(site.query).read(site.key_norm).write(site.partial).write(site.partial_lse);
      traffic.write(3 * n_tokens * finished * kFloat);  // weights, inv_rms, dots
    }
    traffic.instructions(instructions(n_tokens, group_warps(d), finished, kFinished)).add();
  }
}

void routing_forward(Stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  if (output.numel() == 0) return;
  if (site.partial.defined()) return add_merge(site, add, output);
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
  constexpr int64_t kWarpColumns = 1024;
  traffic.write(site.inverse_norm)
      .write(output)
      .instructions(instructions(output.rows(), div_ceil(output.cols(), kWarpColumns),
                                 static_cast<int64_t>(site.sources.size()), kRead))
      .add();
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

void routing_backward(Stream stream, const RoutingSite& site, const Tensor& doutput, const Tensor& add,
                      float beta, const Tensor& dcurrent, const RoutingGradients& gradients,
                      const Tensor& workspace) {
  const int64_t n_tokens = doutput.rows(), d = doutput.cols();
  if (n_tokens == 0) return;
  const bool has_gradient = !site.drops(site.sources.size() - 1), accumulates = beta != 0;
  Traffic traffic("routing backward");
  // Of [N,n] tensors, the last column.
  traffic.read(doutput).read(site.norm_weight).read(site.rstd).read(n_tokens * kFloat);
  const bool finds = site.output.defined();
  traffic.read(finds ? site.output : site.sources.back());
  if (finds) traffic.read(site.inverse_norm);
  if (has_gradient && site.query.defined() && !is_identity(site))
    traffic.read(site.sources.back()).read(site.query).read(site.key_norm).read(2 * n_tokens * kFloat);
  if (accumulates) traffic.read(dcurrent);
  if (has_gradient || !accumulates || add.defined()) traffic.read(add).write(dcurrent);
  traffic.write(site.projection).write(cuda::reduction_chunks(n_tokens) * d * kFloat).add();
  if (gradients.norm_weight.defined()) {
    const PartialSums sum = {workspace, d, 0, gradients.norm_weight};
    add_partial_sums(stream, n_tokens, {&sum, 1});
  }
  if (is_identity(site) && gradients.logits.defined()) zero(stream, gradients.logits);
}

namespace {

void add_shared_launch(std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                       std::span<const Tensor> dsources, std::span<const RoutingGradients> gradients,
                       std::span<const bool> starts) {
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
    traffic.read(sites[0].sources[j]);
    if (std::find(updated.begin(), updated.end(), dsources[j].pointer) != updated.end()) continue;
    updated.push_back(dsources[j].pointer);
    if (!starts[j]) traffic.read(dsources[j]);
    traffic.write(dsources[j]);
  }
  for (size_t g = 0; g < sites.size(); ++g) {
    const RoutingSite& site = sites[g];
    traffic.read(doutputs[g]).read(site.output).read(site.inverse_norm);
    traffic.read(site.norm_weight).read(site.query).read(site.key_norm);
    if (!site.drops(last)) traffic.read(site.sources[last]);
    traffic.read(site.rstd).read(site.projection);
    // weights, inv_rms and dots of the shared sources; weights and inv_rms of the current state.
    traffic.read(n_tokens * (3 * count + 2) * kFloat);
    if (gradients[g].logits.defined()) traffic.write(n_tokens * (count + 1) * kFloat);
  }
  traffic.write(chunks * (d + 1) * shape.sites * kFloat)
      .instructions(instructions(n_tokens, group_warps(d), count, kShared,
                                 static_cast<double>(sites.size()) / static_cast<double>(shape.sites)))
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
                             std::span<const float> betas, std::span<const RoutingGradients> gradients,
                             const Tensor&) {
  if (doutputs[0].rows() == 0) return;
  // The first launch writes the gradients with a beta of 0, and later ones add to them; but not every launch
  // comes to a source that is dropped somewhere.
  std::array<bool, ops::kMaxSources> starts{};
  for (size_t j = 0; j < betas.size(); ++j) {
    starts[j] = betas[j] == 0;
    if (!starts[j] ||
        std::none_of(sites.begin(), sites.end(), [&](const RoutingSite& s) { return s.drops(j); }))
      continue;
    zero(stream, dsources[j]);
    starts[j] = false;
  }
  for (size_t first = 0, count = 0; first < sites.size(); first += count) {
    count = cuda::sites_of_launch(sites.subspan(first), doutputs[0].cols(), cuda::is_scaled);
    for (const RoutingGradients& to : gradients.subspan(first, count))
      if (to.logits.defined()) zero(stream, to.logits);
    add_shared_launch(sites.subspan(first, count), doutputs.subspan(first, count), dsources,
                      gradients.subspan(first, count), starts);
    starts.fill(false);
  }
}

}  // namespace depthroute::cost
