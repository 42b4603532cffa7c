// Reads under an intervention that is more than offsets and scales: sources with other contents, weights that
// are given, and tokens that stay clean. All of them are calls of the clean read's kernel.
#include <algorithm>

#include "train/model/qwen3.h"

namespace depthroute {
namespace {

bool replaces_values(Replaced what) { return what != Replaced::keys; }
bool replaces_keys(Replaced what) { return what != Replaced::values; }

/// Replaces the chosen parts of a site's sources.
void replace(const SiteIntervention& intervention, bool (*chosen)(Replaced), std::span<Tensor> sources) {
  for (const Replacement& replacement : intervention.replaced) {
    DR_CHECK(replacement.source >= 0 && replacement.source < static_cast<int>(sources.size()));
    if (chosen(replacement.what)) sources[replacement.source] = replacement.content;
  }
}

}  // namespace

void Qwen3::plan_scratch(Arena& arena) {
  const int64_t n = options_.micro_batch * options_.seq_len, d = config_.hidden_size;
  const int64_t widest = n * plan_.max_sources();
  arena.plan(Purpose::workspace, &scratch_.output, {n, d}, options_.activations);
  arena.plan(Purpose::workspace, &scratch_.trace.weights, {widest});
  arena.plan(Purpose::workspace, &scratch_.trace.inv_rms, {widest});
  arena.plan(Purpose::workspace, &scratch_.trace.dots, {widest});
  arena.plan(Purpose::workspace, &scratch_.trace.rstd, {n});
}

void Qwen3::intervened_read(Stream stream, int index, const SiteIntervention& intervention,
                            const SiteTrace& trace, const Tensor& output) {
  Read read;
  fill_read(index, &intervention, read);
  const std::span<Tensor> sources(read.sources.data(), read.site.sources.size());
  const std::vector<Tensor> states(sources.begin(), sources.end());
  read.site.weights = trace.weights;
  read.site.inv_rms = trace.inv_rms;
  read.site.dots = trace.dots;
  read.site.rstd = trace.rstd;
  const bool parted = std::ranges::any_of(intervention.replaced,
                                          [](const Replacement& r) { return r.what != Replaced::both; });
  if (intervention.weights.defined()) {
    read.site.given = intervention.weights;
  } else if (parted) {
    // The first call gives the weights that the keys lead to; its mix is overwritten by the second.
    replace(intervention, replaces_keys, sources);
    ops::routing_forward(stream, read.site, {}, output);
    std::ranges::copy(states, sources.begin());
    read.site.given = read.site.weights;
  }
  replace(intervention, replaces_values, sources);
  ops::routing_forward(stream, read.site, {}, output);
}

void Qwen3::read_with_contents(Stream stream, int index, const SiteIntervention& intervention,
                               const Tensor& add, const Tensor& output) {
  DR_CHECK_MSG(options_.interventions, "Qwen3Options::interventions was not set");
  if (!intervention.tokens.defined()) {
    // The state itself goes on through the model, so it is completed even if its content here is another.
    if (add.defined()) ops::add(stream, add, rows(states_[index]));
    intervened_read(stream, index, intervention, trace(index), output);
    return;
  }
  Read clean;
  fill_read(index, nullptr, clean);
  ops::routing_forward(stream, clean.site, add, output);
  const SiteTrace kept = {site_columns(scratch_.trace.weights, index),
                          site_columns(scratch_.trace.inv_rms, index),
                          site_columns(scratch_.trace.dots, index), rows(scratch_.trace.rstd)};
  intervened_read(stream, index, intervention, kept, rows(scratch_.output));
  ops::select_rows(stream, intervention.tokens, rows(scratch_.output), output);
  ops::select_rows(stream, intervention.tokens, kept.weights, trace(index).weights);
}

Tensor Qwen3::site_columns(const Tensor& scratch, int index) const {
  const int64_t n = reads_[index].num_sources();
  return scratch.slice(0, num_tokens() * n).reshape({num_tokens(), n});
}

}  // namespace depthroute
