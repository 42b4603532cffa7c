// Qwen3 with depth routing: forward and backward over the depth plan, on whichever device the arena is for.
//
// One Qwen3 object holds the weights and the activations of one micro-batch. Typical use:
//   Arena arena(device);
//   Qwen3 model(config, {.micro_batch = 8, .seq_len = 512, .training = true}, arena);   // plans memory
//   arena.allocate();
//   initialize_parameters(model.layout(), seed, bias, model.parameters());   // or load them
//   model.forward(stream, tokens);                                           // fills states and traces
//   model.backward(stream, targets, 1.0f / total_targets);                   // += gradients(); nll()
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/arena.h"
#include "kernels/ops/ops.h"
#include "kernels/side_stream.h"
#include "train/model/depth_plan.h"
#include "train/model/parameters.h"
#include "train/model/site_intervention.h"

namespace depthroute {

/// The weights and dots a site kept in the last forward pass.
struct SiteTrace {
  Tensor weights, inv_rms, dots;  // [N,n] f32
  Tensor rstd;                    // [N] f32
};

/// See Qwen3Options::group_reads. `all`: every group of two sites or more.
enum class GroupReads : uint8_t { none, where_it_pays, all };

struct Qwen3Options {
  int64_t micro_batch = 1;  // B: the most sequences of a forward pass
  int64_t seq_len = 1;      // T, exactly
  bool training = false;    // keep what backward needs; otherwise layers share one set of activations
  /// dtype of states, activations and working weights ("act"): f32 or, on cuda, bf16.
  DType activations = DType::f32;
  Recompute recompute = Recompute::none;
  /// Which groups of sites read their finished states once for all of them (ops::routing_read_finished); training
  /// only. Such reads round otherwise than reads one by one, and passes under interventions read one by one. As
  /// an intervention that changes nothing must equal the clean pass bit for bit, a model with group reads takes
  /// clean passes only, and evaluation has none.
  GroupReads group_reads = GroupReads::none;
  /// On a GPU, puts first phases of reads and shared parts of their backward pass on a stream of their own, beside
  /// the products of a sublayer; training only. In `cumulative`, boundaries then have groups of their own, which
  /// changes the order of sums.
  bool overlap = false;
  bool logit_gradients = false;  // backward() also keeps the gradient of every site's logits; training only
  bool deterministic = false;    // concerns library attention on cuda; everything else always is
  /// Elements of the parameter block, if more than layout.block_size(): padding for the optimizer's shards.
  int64_t block_size = 0;
  /// Plans scratch for interventions that replace contents, give weights or choose tokens
  /// (SiteIntervention::needs_scratch()).
  bool interventions = false;
  /// The batch sizes below micro_batch that passes will have, each at least 1: their scratch is planned, too, since a
  /// library may want more for them. Passes of other sizes run if that is enough.
  std::vector<int64_t> smaller_batches = {};
};

/// backward() calls this after each layer, the last one first: the gradients in [begin,
/// layout.matrices_size()) of the block have their final values for this pass. At the end it calls it with 0:
/// the whole block has.
using GradientsReady = std::function<void(int64_t begin)>;

/// forward() calls this before it puts work on the stream that reads elements [begin, end) of the block: norms,
/// pseudo-queries and biases first, then the embedding, each layer, an untied head.
using ParametersNeeded = std::function<void(int64_t begin, int64_t end)>;

class Qwen3 {
 public:
  /// Plans parameters, activations and (training) gradients in `arena`, which must outlive the model and be
  /// allocated before anything else is called.
  Qwen3(const ModelConfig& config, const Qwen3Options& options, Arena& arena);
  Qwen3(const Qwen3&) = delete;
  Qwen3& operator=(const Qwen3&) = delete;

  const ModelConfig& config() const { return config_; }
  const DepthPlan& plan() const { return plan_; }
  const ParameterLayout& layout() const { return layout_; }
  const Qwen3Options& options() const { return options_; }
  Device device() const { return parameters_.device; }
  /// [options().block_size] f32: what is loaded, saved and optimized. Call publish() after changing it,
  /// unless no pass has run yet.
  Tensor parameters() const { return parameters_; }
  /// The matrices that products read, [options().block_size] bf16 of which layout().matrices_size() are used;
  /// undefined if products read the f32 ones.
  Tensor compute_parameters() const { return compute_parameters_; }
  void publish(Stream stream);
  Tensor gradients() const { return gradients_; }  // same layout; training only

  /// tokens [B', T] i32 on the device, B' <= micro_batch. `interventions`: empty (clean), or one per site of
  /// the plan. `first_site` > 0 reuses the states S_0 ... S_{first_site} that earlier passes over the same
  /// tokens left (a pass from site s changes only states after S_s): after one clean pass, run a grid of
  /// ablations in descending order of their first changed site, and each starts from the clean run's own
  /// states. `first_site` may be up to num_sublayers() (the final read alone). Interventions are for
  /// evaluation: backward() may follow clean passes only. Afterwards, trace(site).weights are those in force.
  void forward(Stream stream, const Tensor& tokens, std::span<const SiteIntervention> interventions = {},
               int first_site = 0, const ParametersNeeded& needed = {});

  /// Computes nll() of the last forward pass: targets [B', T] i32 (-1: ignored). No gradients.
  void loss(Stream stream, const Tensor& targets);
  /// Computes nll() and adds all gradients of grad_scale * sum(nll) to gradients(). Training only.
  void backward(Stream stream, const Tensor& targets, float grad_scale, const GradientsReady& ready = {});

  Tensor nll() const;           // [B'*T] f32 of the last loss() or backward()
  Tensor final_hidden() const;  // [B'*T, D]: input of the output head, after the final norm
  Tensor head() const;          // [V, D]
  SiteTrace trace(int site) const;
  /// Computes the shares of a site's sources in its clean read (ops::routing_shares); each [B'*T, n]. Follows a
  /// clean pass; the states must still be that pass's.
  void read_shares(Stream stream, int site, const Tensor& norms, const Tensor& projections,
                   const Tensor& cosines) const;
  Tensor state(int index) const;  // S_index, complete
  /// [B'*T, n] f32: grad_scale * d sum(nll) / d logit of the last backward(), with options().logit_gradients. A
  /// site with one source has none: undefined.
  Tensor logit_gradients(int site) const;

  /// What to know about the attention of a full micro-batch on this device.
  ops::AttentionNotes attention_notes() const;

  /// Matrix-product FLOPs per token of one forward+backward at this sequence length (6 per weight that
  /// multiplies, plus causal attention 6 T H K per layer); embeddings and element-wise work are not counted.
  static double train_flops_per_token(const ModelConfig& config, int64_t seq_len);
  /// Matrix-product FLOPs per token that a choice of recomputation adds.
  static double recompute_flops_per_token(const ModelConfig& config, int64_t seq_len, Recompute recompute);
  /// Bytes per token that recomputing products of SwiGLU, reads and norms moves in the backward pass: SwiGLU's
  /// product written; each source read, input written, q and k read and written.
  double recompute_bytes_per_token() const;

 private:
  /// Parameters (or their gradients) of one layer; q|k|v and gate|up as the fused matrices they are.
  struct LayerWeights {
    Tensor input_norm, qkv, q_norm, k_norm, o, post_norm, gate_up,
        down;  // q_norm, k_norm: if config_.qk_norm
  };
  /// A site's routing parameters (or gradients); undefined where it is not routed.
  struct ReadWeights {
    Tensor query, key_norm, recency_bias, norm;
  };
  /// What one layer keeps for its backward pass. What it does not keep (Recompute, evaluation) is in one set
  /// that all layers share, computed again when needed.
  struct LayerActivations {
    Tensor attn_in, mlp_in;  // outputs of reads: kept, with Recompute::norms until their group is done
    Tensor q, k;             // outputs of norms: kept unless Recompute::norms
    Tensor qkv, attn_out, lse, gate_up;  // kept unless Recompute::layer
    Tensor act;                          // SwiGLU's product: kept with Recompute::none alone
  };
  /// The views of one micro-batch of `tokens` rows and the tensors a routing call needs.
  struct Read {
    std::array<Tensor, kMaxSources> sources;
    ops::RoutingSite site;
  };

  void plan_memory(Arena& arena);
  void plan_activations(Arena& arena);
  void plan_backward(Arena& arena);
  void plan_scratch(Arena& arena);
  /// `matrices` and `others` are the blocks that matrices and all other parameters are views of.
  void bind_weights(const Tensor& matrices, const Tensor& others, std::vector<LayerWeights>& layers,
                    std::vector<ReadWeights>& reads) const;
  void bind_scratch();
  void bind_activations();
  void bind(Stream stream);
  bool keeps(Recompute unless) const { return options_.training && options_.recompute < unless; }
  bool keeps_act() const { return keeps(Recompute::act); }
  bool keeps_norms() const { return keeps(Recompute::norms); }
  bool keeps_layers() const { return keeps(Recompute::layer); }
  LayerActivations& activations(int layer) { return activations_[layer]; }
  const SiteGroup& group(int site) const { return groups_[group_of_[site]]; }
  /// The place of what a site keeps until its group is done, 0 ... kMaxGroupSites. The last site of a group, which
  /// comes first in the backward pass, has none of the places of the group behind it: that one may still be at work.
  int place(int site) const;
  ops::AttentionShape attention_shape(int64_t batch) const;
  /// The block that the working matrices are views of.
  const Tensor& matrices() const { return compute_parameters_.defined() ? compute_parameters_ : parameters_; }
  int64_t num_tokens() const { return batch_ * options_.seq_len; }
  Tensor rows(const Tensor& tensor) const { return tensor.slice(0, num_tokens()); }

  void fill_read(int index, const SiteIntervention* intervention, Read& read) const;
  /// Where a read's result goes: what its sublayer or the output head reads.
  const Tensor& read_output(int index) const;
  /// The first site of a group that is read in two phases, as are all after it; the group's end if none is.
  int two_phase_begin(const SiteGroup& sites) const;
  void set_partial(int index, ops::RoutingSite& site) const;
  /// The first phase of the reads of sites [begin, end) of a group.
  void read_finished(Stream stream, int begin, int end);
  void start_group_reads(Stream stream, int index);
  /// On the second stream if there is one.
  void run_beside(Stream stream, const std::function<void(Stream)>& work);
  void read_forward(Stream stream, int index, const SiteIntervention* intervention, bool state_complete,
                    const Tensor& output);
  /// A read under an intervention that needs_scratch(). `add`: still to be added to S_index, or undefined.
  void read_with_contents(Stream stream, int index, const SiteIntervention& intervention, const Tensor& add,
                          const Tensor& output);
  /// Reads complete states under `intervention`, but for its tokens.
  void intervened_read(Stream stream, int index, const SiteIntervention& intervention, const SiteTrace& trace,
                       const Tensor& output);
  /// A view [N,n] of scratch for a site with n sources.
  Tensor site_columns(const Tensor& scratch, int index) const;
  /// `add`: the gradient that the residual addition passes on to the current state, or undefined.
  void read_backward(Stream stream, int index, const Tensor& add);
  void group_backward(Stream stream, const SiteGroup& sites);
  /// Waits for a group's shared part on the side stream; with a slot, only if that part writes to it.
  void join_group(Stream stream, int slot = -1);
  /// beta for the next write to a slot of state_gradients_: 0 for the first one of a backward pass.
  float beta_of(int slot);
  void finish_sums(Stream stream);
  void attention_projections(Stream stream, int layer);
  void qk_norms(Stream stream, int layer);
  void attention(Stream stream, int layer);
  void mlp_projections(Stream stream, int layer);
  void recompute(Stream stream, int site);
  void attention_forward(Stream stream, int layer, const Tensor& output);
  void attention_backward(Stream stream, int layer, const Tensor& doutput, const Tensor& dinput);
  void mlp_forward(Stream stream, int layer, const Tensor& output);
  void mlp_backward(Stream stream, int layer, const Tensor& doutput, const Tensor& dinput);

  ModelConfig config_;
  DepthPlan plan_;
  /// The plan's sites; if it has no final site, the final norm's read of S_2L follows.
  std::vector<Site> reads_;
  ParameterLayout layout_;
  Qwen3Options options_;

  std::vector<SiteGroup> groups_;  // of reads_
  std::vector<int> group_of_;      // per read

  Tensor parameters_, gradients_;              // [layout block]
  Tensor compute_parameters_;                  // [layout's matrices] bf16 or undefined
  std::vector<Tensor> states_;                 // 2L+1 x [N,D]
  std::vector<Tensor> state_gradients_;        // plan.num_gradient_slots x [N,D]
  std::vector<LayerActivations> activations_;  // L; what is not kept points into shared_
  LayerActivations shared_;
  std::vector<SiteTrace> traces_;              // one per read
  Tensor inverse_norms_;                       // [reads, D], training
  std::vector<Tensor> group_outputs_;          // [N,D] per index in a group, with Recompute::norms or layer
  std::vector<Tensor> projections_, dinputs_;  // [N] and [N,D] per index in a group
  std::vector<Tensor> partial_lses_;           // [N] likewise, with group_reads
  std::vector<Tensor> logit_gradients_;        // [N,n] per read, with logit_gradients
  Tensor rope_, final_hidden_, nll_, tokens_;  // [T,K], [N,D], [N], [N] i32
  Tensor sublayer_scratch_;                    // of attention or of an MLP: the views
  Tensor dact_, dqkv_, dq_, dk_, dattn_;
  Tensor workspace_;
  /// Of one intervened read: its output [N,D] and its trace, [N * plan.max_sources()] where a site's is [N,n].
  struct {
    Tensor output;
    SiteTrace trace;
  } scratch_;

  // In a backward pass: which slots of state_gradients_ hold something, and the sums of norms' gradients over
  // tokens, left unfinished until there are those of kMaxGroupSites sites: one launch instead of two or three a
  // layer.
  std::vector<bool> written_;
  std::array<Tensor, kMaxGroupSites> norm_partials_,
      qk_partials_;  // [reduction_workspace(D)], (2K) if qk_norm
  std::vector<ops::PartialSums> unfinished_;
  int unfinished_sites_ = 0;

  // With options_.overlap: the second stream, its scratch, and the group whose shared part it has, or -1.
  std::unique_ptr<SideStream> side_;
  Tensor side_workspace_;
  int side_group_ = -1;

  bool bound_ = false;
  std::vector<LayerWeights> weights_, weight_gradients_;
  std::vector<ReadWeights> read_weights_, read_gradients_;
  int64_t batch_ = 0;            // sequences of the last forward pass
  bool differentiable_ = false;  // that pass was clean and whole, and no backward pass has used it up
};

}  // namespace depthroute
