// Construction and accessors of a Qwen3. Its memory is in qwen3_memory.cpp, the computation in
// qwen3_forward.cpp and qwen3_backward.cpp.
#include "train/model/qwen3.h"

#include "configs/base/error.h"

namespace depthroute {

static_assert(kMaxSources <= ops::kMaxSources,
              "a configuration may ask for more sources than the kernels hold");

Qwen3::Qwen3(const ModelConfig& config, const Qwen3Options& options, Arena& arena)
    : config_(config), plan_(make_depth_plan(config)), layout_(config, plan_), options_(options) {
  DR_CHECK(options.micro_batch > 0 && options.seq_len > 0);
  DR_CHECK(options.training ||
           !(options.logit_gradients || options.group_reads != GroupReads::none || options.overlap));
  const std::string problem =
      ops::unsupported(arena.device(), config.hidden_size, config.intermediate_size, config.head_dim);
  if (!problem.empty()) throw ConfigError("model.{}", problem);
  if (options_.block_size == 0) options_.block_size = layout_.block_size();
  DR_CHECK(options_.block_size >= layout_.block_size());
  reads_ = plan_.sites;
  if (!plan_.has_final_site()) {  // norm(S_2L): a read of one source without routing
    Site last;
    last.layer = plan_.num_layers;
    last.sublayer = Sublayer::final;
    last.sources = {plan_.num_sublayers()};
    last.duplicate_of = {-1};
    last.routed = false;
    reads_.push_back(last);
  }
  groups_ = group_sites(reads_, options_.overlap);
  for (size_t g = 0; g < groups_.size(); ++g)
    group_of_.insert(group_of_.end(), static_cast<size_t>(groups_[g].count), static_cast<int>(g));
  plan_memory(arena);
}

ops::AttentionShape Qwen3::attention_shape(int64_t batch) const {
  return {batch,
          options_.seq_len,
          config_.num_heads,
          config_.num_kv_heads,
          config_.head_dim,
          options_.deterministic};
}

int Qwen3::place(int site) const {
  const SiteGroup& sites = group(site);
  if (!options_.overlap || site + 1 < sites.end()) return site - sites.first;
  return kMaxGroupSites - 1 + group_of_[site] % 2;
}

void Qwen3::run_beside(Stream stream, const std::function<void(Stream)>& work) {
  if (side_) return side_->run(stream, work);
  work(stream);
}

Tensor Qwen3::nll() const { return rows(nll_); }
Tensor Qwen3::final_hidden() const { return rows(final_hidden_); }
Tensor Qwen3::state(int index) const { return rows(states_.at(index)); }

Tensor Qwen3::head() const {
  return layout_.view(matrices(), config_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
}

Tensor Qwen3::logit_gradients(int site) const {
  const Tensor& full = logit_gradients_.at(site);
  return full.defined() ? rows(full) : Tensor{};
}

SiteTrace Qwen3::trace(int site) const {
  const SiteTrace& full = traces_.at(site);
  return {rows(full.weights), rows(full.inv_rms), rows(full.dots), rows(full.rstd)};
}

double Qwen3::train_flops_per_token(const ModelConfig& c, int64_t seq_len) {
  const double q_cols = static_cast<double>(c.num_heads * c.head_dim);
  const double kv_cols = static_cast<double>(c.num_kv_heads * c.head_dim);
  const double d = static_cast<double>(c.hidden_size), layers = static_cast<double>(c.num_layers);
  const double per_layer = d * (2 * q_cols + 2 * kv_cols) + 3 * d * static_cast<double>(c.intermediate_size);
  const double weights = layers * per_layer + d * static_cast<double>(c.vocab_size);
  return 6 * weights + 6 * layers * static_cast<double>(seq_len) * q_cols;
}

double Qwen3::recompute_flops_per_token(const ModelConfig& c, int64_t seq_len, Recompute recompute) {
  if (recompute != Recompute::layer) return 0;
  const double q_cols = static_cast<double>(c.num_heads * c.head_dim);
  const double kv_cols = static_cast<double>(c.num_kv_heads * c.head_dim);
  const double d = static_cast<double>(c.hidden_size), layers = static_cast<double>(c.num_layers);
  // q, k, v, gate and up once more, 2 per weight, and the forward pass of causal attention: a third of what
  // train_flops_per_token() counts for it.
  const double weights = d * (q_cols + 2 * kv_cols) + 2 * d * static_cast<double>(c.intermediate_size);
  return layers * (2 * weights + 2 * static_cast<double>(seq_len) * q_cols);
}

double Qwen3::recompute_bytes_per_token() const {
  if (options_.recompute == Recompute::none) return 0;
  double values = static_cast<double>(config_.num_layers * config_.intermediate_size);
  for (int s = 0; s < plan_.num_sublayers() && options_.recompute != Recompute::act; ++s) {
    const Site& site = plan_.sites[s];
    const int begin = two_phase_begin(group(s)), sharing = group(s).end() - begin;
    // In two phases: a share of the finished sources, the partial mix written and read, and the current state.
    const double read = s < begin ? site.num_sources() : (site.num_sources() - 1.0) / sharing + 3;
    values += static_cast<double>(config_.hidden_size) * (read + 1);
    if (site.sublayer == Sublayer::attn)
      values += static_cast<double>(2 * (config_.num_heads + config_.num_kv_heads) * config_.head_dim);
  }
  return values * static_cast<double>(size_of(options_.activations));
}

}  // namespace depthroute
