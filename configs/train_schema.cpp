// Every key of depthroute-train: its field, range and meaning.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "configs/plan_size.h"
#include "configs/read.h"
#include "configs/schema.h"
#include "configs/whole_ratio.h"

namespace depthroute {
namespace {

// Bounds steps, sequences and tokens per sequence; check_together() bounds their product.
constexpr double kMostSteps = 1e9;

void describe_model(Schema& s, std::optional<std::string>& from, ModelConfig& m) {
  s.key("model.from", &from,
        "model folder or checkpoint to start from; it supplies the shape, and other keys of `model` that are "
        "given must agree with it")
      .nullable(!from);
  s.key("model.vocab_size", &m.vocab_size, "tokens in the vocabulary").at_least(1);
  s.key("model.hidden_size", &m.hidden_size, "width D of the residual stream").at_least(1);
  s.key("model.num_layers", &m.num_layers, "layers, each of two sublayers: attention and MLP").at_least(1);
  s.key("model.num_heads", &m.num_heads, "query heads").at_least(1);
  s.key("model.num_kv_heads", &m.num_kv_heads, "key and value heads; divides num_heads").at_least(1);
  s.key("model.head_dim", &m.head_dim,
        "width of a head, even; num_heads * head_dim need not equal hidden_size")
      .at_least(2);
  s.key("model.intermediate_size", &m.intermediate_size, "width of the SwiGLU MLP").at_least(1);
  s.key("model.rope_theta", &m.rope_theta, "base of the rotary position embedding").above(0);
  s.key("model.rms_norm_eps", &m.rms_norm_eps, "eps of every RMSNorm").at_least(0);
  s.key("model.tie_embeddings", &m.tie_embeddings, "the output head is the embedding matrix");
  s.key("model.qk_norm", &m.qk_norm,
        "RMSNorm of q and k before RoPE, as in Qwen3; false is Llama's attention");

  ResidualConfig& r = m.residual;
  s.key(
      "model.residual.variant", &r.variant,
      "which states a site reads and where they restart; `additive` is the plain model and ignores the keys "
      "below");
  s.key("model.residual.num_blocks", &r.num_blocks,
        "number of blocks, of 2 * ceil(num_layers / num_blocks) sublayers each")
      .at_least(1)
      .at_most(kMaxBlocks)
      .nullable(r.sublayers_per_block > 0);
  s.key("model.residual.sublayers_per_block", &r.sublayers_per_block,
        "sublayers per block, instead of num_blocks; 1 is Full AttnRes")
      .at_least(1)
      .at_most(kMaxBlocks)
      .nullable(r.sublayers_per_block == 0);
  s.key("model.residual.recency_bias", &r.recency_bias,
        "initial value of every site's learned offset on its current state")
      .at_least(-1e6)
      .at_most(1e6);
}

void describe_optimizer(Schema& s, OptimizerConfig& o) {
  s.key("optimizer.lr", &o.lr, "peak learning rate, reached at the end of the warm-up").at_least(0);
  s.key("optimizer.lr_min", &o.lr_min, "learning rate of the last step; ignored by `constant`").at_least(0);
  s.key(
      "optimizer.schedule", &o.lr_decay,
      "learning rate after the warm-up: `cosine` decay to lr_min; `wsd`, constant and then linear to lr_min; "
      "`constant`");
  s.key("optimizer.warmup", &o.warmup,
        "steps of linear warm-up of the learning rate from 0; at most train.steps")
      .at_least(0);
  s.key("optimizer.decay_fraction", &o.decay_fraction,
        "`wsd`: last fraction of the steps, over which the learning rate decays; never starts before the end "
        "of the warm-up")
      .above(0)
      .at_most(1);
  s.key("optimizer.beta1", &o.beta1, "AdamW: decay rate of the first moment").at_least(0).below(1);
  s.key("optimizer.beta2", &o.beta2, "AdamW: decay rate of the second moment").at_least(0).below(1);
  s.key("optimizer.eps", &o.eps, "AdamW: added to the square root of the second moment").above(0);
  s.key("optimizer.weight_decay", &o.weight_decay,
        "AdamW: decoupled decay of matrices and embeddings; norms, biases and pseudo-queries never decay")
      .at_least(0);
  s.key("optimizer.max_norm", &o.max_norm,
        "largest global L2 norm of the gradient; a larger gradient is scaled down to it")
      .above(0);
}

void describe_distributed(Schema& s, DistributedConfig& d) {
  s.key("distributed.backend", &d.backend,
        "what carries gradients between GPUs: NCCL, or MPI through host memory, which also works if ranks "
        "share a GPU; `auto` is nccl if every rank has a GPU of its own");
  s.key("distributed.bucket_mib", &d.bucket_mib,
        "size of a gradient bucket in MiB; buckets are exchanged while the backward pass continues")
      .at_least(1)
      .at_most(4096);
  s.key("distributed.shards", &d.shards,
        "deterministic: number of partial sums that make up a step's gradient, whatever the number of ranks; "
        "a power of two that the number of ranks divides")
      .at_least(1)
      .at_most(1024);
  s.key("distributed.timeout", &d.timeout,
        "seconds that ranks wait for each other before the job ends with an error")
      .at_least(1)
      .at_most(86400);
}

Schema describe_mix_source(MixSource& m) {
  Schema s;
  s.key("shards", &m.shards, "token shards of this source, as in data.train").must_be_given().not_empty();
  s.key("weight", &m.weight,
        "share of the sequences drawn from it, relative to the other weights; at most six decimals")
      .must_be_given()
      .above(0)
      .at_most(1e6);
  return s;
}

}  // namespace

Schema describe(TrainConfig& c) {
  Schema s;
  s.key("seed", &c.seed, "seed of the initial weights and of the data order").at_least(0);
  s.key("output", &c.output, "folder for metrics.jsonl and checkpoints/").must_be_given();
  s.key("device", &c.device, "`auto` is a GPU if there is one");
  s.key("precision", &c.precision,
        "dtype of activations and working weights; the CPU computes in fp32 regardless");
  s.key("deterministic", &c.deterministic,
        "produce the same bits in every run, on any number of ranks that divides distributed.shards; costs "
        "memory for partial sums and, on a GPU, attention speed");
  describe_model(s, c.model_from, c.model);

  s.key("data.train", &c.data.train,
        "token shards to train on: llm.c's .bin or Megatron-LM's .idx; paths may hold * and ?")
      .must_be_given_unless("data.mix", !c.data.mix.empty())
      .not_empty()
      .nullable(false);
  s.list_of(
       "data.mix", &c.data.mix, describe_mix_source,
       "instead of data.train: several sources, from which sequences are drawn by weight, each in data.order and "
       "in epochs of its own")
      .may_be_absent();
  s.key("data.val", &c.data.val, "token shards to validate on; may be empty");
  s.key("data.seq_len", &c.data.seq_len, "tokens per sequence").at_least(1).at_most(kMostSteps);
  s.key("data.order", &c.data.order,
        "order of the sequences; `shuffled` draws a new permutation for every epoch from the seed");

  s.key("train.steps", &c.train.steps, "optimizer steps").at_least(1).at_most(kMostSteps);
  s.key("train.global_batch", &c.train.global_batch, "sequences per optimizer step, over all ranks")
      .at_least(1)
      .at_most(kMostSteps);
  s.key("train.micro_batch", &c.train.micro_batch,
        "sequences per forward and backward pass; divides global_batch")
      .at_least(1)
      .at_most(kMostSteps);
  s.key(
      "train.recompute", &c.train.recompute,
      "what the backward pass computes again instead of keeping: nothing; SwiGLU's product; also routed "
      "reads and norms; whole layers. Saves memory and changes no number; --dry-run shows the cost of each");
  s.key("train.cuda_graph", &c.train.cuda_graph,
        "on a GPU: record one micro-batch as a CUDA graph and replay it");
  s.key(
      "train.tune_products", &c.train.tune_products,
      "on a GPU, unless deterministic: before the first step, time several algorithms for every matrix product "
      "and keep the fastest, in gemm_choices.json; what is in that file is used in any case");
  s.key(
      "train.overlap", &c.train.overlap,
      "on a GPU: compute parts of depth routing on a second stream, beside matrix products. Takes a little memory; "
      "in `cumulative` it changes the order of sums");
  s.key("train.max_bad_steps", &c.train.max_bad_steps,
        "stop after this many consecutive steps with a non-finite loss or gradient")
      .at_least(1);
  describe_optimizer(s, c.optimizer);

  s.key("validate.every", &c.validate.every, "steps between validations; 0: never").at_least(0);
  s.key("validate.sequences", &c.validate.sequences,
        "validate on the first this many sequences of data.val, or on all if there are fewer")
      .at_least(1)
      .at_most(kMostSteps);
  s.key("checkpoint.every", &c.checkpoint.every, "steps between checkpoints; 0: only after the last step")
      .at_least(0);
  s.key("checkpoint.keep", &c.checkpoint.keep, "number of newest checkpoints to keep; 0: all").at_least(0);
  s.key(
      "checkpoint.initial", &c.checkpoint.initial,
      "also save what the run starts from, before its first step, as step_00000000, and keep that whatever `keep` says: "
      "evaluated, it is the untrained model");
  s.key("checkpoint.resume", &c.checkpoint.resume,
        "`auto`: from the newest intact checkpoint in output, if any; `never`; or a checkpoint folder");
  s.key("checkpoint.accept_changes", &c.checkpoint.accept_changes,
        "resume even if keys that decide the result differ from the checkpoint's");
  describe_distributed(s, c.distributed);
  s.key("log.every", &c.log.every, "steps between lines of metrics.jsonl").at_least(1);
  s.key("log.tensorboard", &c.log.tensorboard,
        "also write what metrics.jsonl gets to TensorBoard event files in output/tensorboard");
  return s;
}

namespace {
void check_mix(const TrainConfig& c, const Given& given) {
  constexpr size_t kMostSources = 1000;
  const std::string mix = "data.mix";
  if (!given.has(mix)) return;
  if (given.has("data.train"))
    given.fail(
        {mix},
        "data.train and data.mix both say what to train on; give one, and null for data.train if it is "
        "data.mix");
  if (c.data.mix.size() > kMostSources)
    given.fail({mix}, fmt::format("data.mix has {} sources; at most {} are possible", c.data.mix.size(),
                                  kMostSources));
  std::vector<double> weights;
  for (const MixSource& source : c.data.mix) weights.push_back(source.weight);
  if (!whole_ratio(weights))
    given.fail({mix},
               fmt::format("data.mix: the weights {} are in no ratio of whole numbers that add up to at most "
                           "{}; give them fewer digits",
                           fmt::join(weights, ", "), kMostRatioParts));
}
}  // namespace

void check_together(const TrainConfig& c, const Given& given) {
  check_mix(c, given);
  const ResidualConfig& residual = c.model.residual;
  const std::string blocks = "model.residual.num_blocks", sublayers = "model.residual.sublayers_per_block";
  if (given.has(blocks) && given.has(sublayers))
    given.fail({sublayers},
               fmt::format("{} = {} and {} = {} say the same thing; give one, and null for the other",
                           sublayers, residual.sublayers_per_block, blocks, residual.num_blocks));
  // problem() begins with the offending key.
  const std::string problem = c.model_from ? "" : c.model.problem();
  if (!problem.empty()) given.fail({"model." + problem.substr(0, problem.find(' '))}, "model." + problem);

  if (c.train.global_batch % c.train.micro_batch != 0)
    given.fail({"train.micro_batch", "train.global_batch"},
               fmt::format("train.micro_batch = {} does not divide train.global_batch = {}",
                           c.train.micro_batch, c.train.global_batch));
  const int64_t shards = c.distributed.shards;
  if ((shards & (shards - 1)) != 0)
    given.fail({"distributed.shards"}, fmt::format("distributed.shards = {} is not a power of two", shards));
  if (c.deterministic && c.train.global_batch % (shards * c.train.micro_batch) != 0)
    given.fail({"deterministic", "train.global_batch"},
               fmt::format("deterministic: true needs a train.global_batch that distributed.shards * "
                           "train.micro_batch = {} * {} divides; it is {}",
                           shards, c.train.micro_batch, c.train.global_batch));
  constexpr double kMostTokens = 4.0e18;  // token positions are int64
  const double sequences = static_cast<double>(c.train.steps) * static_cast<double>(c.train.global_batch);
  if (sequences * static_cast<double>(c.data.seq_len) > kMostTokens)
    given.fail({"train.steps", "train.global_batch", "data.seq_len"},
               "train.steps * train.global_batch * data.seq_len is more tokens than can be counted");
  const std::string too_large = c.model_from ? "" : size_problem(c);
  if (!too_large.empty())
    given.fail({"train.micro_batch", "data.seq_len", "distributed.bucket_mib", "model"}, too_large);

  const OptimizerConfig& o = c.optimizer;
  if (o.warmup > c.train.steps)
    given.fail({"optimizer.warmup", "train.steps"},
               fmt::format("optimizer.warmup = {} is more than train.steps = {}", o.warmup, c.train.steps));
  if (o.lr_decay != LearningRateDecay::constant && o.lr_min > o.lr)
    given.fail({"optimizer.lr_min", "optimizer.lr"},
               fmt::format("optimizer.lr_min = {} is above optimizer.lr = {}", o.lr_min, o.lr));
}

TrainConfig parse_train_config(const std::string& text, const std::string& where,
                               const std::vector<std::string>& overrides) {
  const YamlDocument document = parse_yaml(text, where, overrides);
  TrainConfig config;
  const Schema schema = describe(config);
  const Given given = read_fields(schema, document);
  check_together(config, given);
  config.given = given.keys(schema);
  return config;
}

std::string to_yaml(const TrainConfig& config) {
  TrainConfig copy = config;
  return to_yaml(describe(copy));
}

std::vector<std::pair<std::string, std::string>> flatten(const TrainConfig& config) {
  TrainConfig copy = config;
  return flatten(describe(copy));
}

std::string train_reference() {
  TrainConfig defaults;
  return "## Keys of depthroute-train\n\n" + reference(describe(defaults));
}

}  // namespace depthroute
