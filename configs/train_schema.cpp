// Every key of depthroute-train: its field, its range, its meaning.
#include <fmt/format.h>

#include "configs/plan_size.h"
#include "configs/read.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

constexpr double kMostSteps = 1e9;  // also sequences and tokens per sequence; their product is checked below

void describe_model(Schema& s, std::optional<std::string>& from, ModelConfig& m) {
  s.key("model.from", &from,
        "model folder or checkpoint to start from; the shape is then the folder's, and the other keys of "
        "`model` are "
        "not used")
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

  ResidualConfig& r = m.residual;
  s.key("model.residual.variant", &r.variant,
        "which states a site reads and where they restart; `additive` is plain Qwen3 and uses none of the "
        "keys below")
      .one_of(variant_names());
  s.key("model.residual.num_blocks", &r.num_blocks,
        "blocks; gives 2 * ceil(num_layers / num_blocks) sublayers each")
      .at_least(1)
      .nullable(r.sublayers_per_block > 0);
  s.key("model.residual.sublayers_per_block", &r.sublayers_per_block,
        "the same said directly, instead of num_blocks; 1 is Full AttnRes")
      .at_least(1)
      .at_most(8192)
      .nullable(r.sublayers_per_block == 0);
  s.key("model.residual.recency_bias", &r.recency_bias,
        "initial value of every site's learned offset on its current state")
      .at_least(-1e6)
      .at_most(1e6);
}

void describe_optimizer(Schema& s, OptimizerConfig& o) {
  s.key("optimizer.lr", &o.lr, "highest learning rate, reached after the warm-up").at_least(0);
  s.key("optimizer.lr_min", &o.lr_min, "learning rate of the last step (not used by `constant`)").at_least(0);
  s.key("optimizer.schedule", &o.schedule,
        "after the warm-up: cosine to lr_min; constant, then linear to lr_min (wsd); constant")
      .one_of({"cosine", "wsd", "constant"});
  s.key("optimizer.warmup", &o.warmup, "steps of linear warm-up from 0; at most train.steps").at_least(0);
  s.key("optimizer.decay_fraction", &o.decay_fraction,
        "`wsd`: the last fraction of the steps, which decays (as far as it lies after the warm-up)")
      .above(0)
      .at_most(1);
  s.key("optimizer.beta1", &o.beta1, "AdamW: decay of the first moment").at_least(0).below(1);
  s.key("optimizer.beta2", &o.beta2, "AdamW: decay of the second moment").at_least(0).below(1);
  s.key("optimizer.eps", &o.eps, "AdamW: added to the root of the second moment").above(0);
  s.key("optimizer.weight_decay", &o.weight_decay,
        "AdamW: decoupled decay of matrices and embeddings; never of norms, biases and pseudo-queries")
      .at_least(0);
  s.key("optimizer.max_norm", &o.max_norm, "largest global L2 norm of the gradient before it is scaled down")
      .above(0);
}

void describe_distributed(Schema& s, DistributedConfig& d) {
  s.key(
       "distributed.backend", &d.backend,
       "between GPUs: NCCL, or MPI through host memory, which also works where processes share a GPU; `auto` "
       "is nccl where every process has a GPU of its own")
      .one_of({"auto", "nccl", "mpi"});
  s.key("distributed.bucket_mib", &d.bucket_mib,
        "gradients exchanged at a time while the backward pass goes on")
      .at_least(1)
      .at_most(4096);
  s.key("distributed.shards", &d.shards,
        "deterministic: parts that a step's sum always has, whatever the number of processes, which must "
        "divide "
        "it; a power of two")
      .at_least(1)
      .at_most(1024);
  s.key("distributed.timeout", &d.timeout,
        "seconds that processes wait for one another before the job ends with an error")
      .at_least(1)
      .at_most(86400);
}

}  // namespace

Schema describe(TrainConfig& c) {
  Schema s;
  s.key("seed", &c.seed, "seed of the initial weights and of the data order").at_least(0);
  s.key("output", &c.output, "folder for metrics.jsonl and checkpoints/").must_be_given();
  s.key("device", &c.device, "`auto` is a GPU where there is one").one_of({"auto", "cpu", "cuda"});
  s.key("precision", &c.precision,
        "of activations and weights in use; the CPU computes in fp32 whatever is asked")
      .one_of({"bf16", "fp32"});
  s.key(
      "deterministic", &c.deterministic,
      "the same bits in every run, on any number of processes that divides distributed.shards; costs memory "
      "for partial sums and, on a GPU, some of the library's attention");
  describe_model(s, c.model_from, c.model);

  s.key("data.train", &c.data.train, "token shards to train on; paths may hold * and ?")
      .must_be_given()
      .not_empty();
  s.key("data.val", &c.data.val, "token shards to validate on; may be empty");
  s.key("data.seq_len", &c.data.seq_len, "tokens per sequence").at_least(1).at_most(kMostSteps);
  s.key("data.order", &c.data.order, "of the sequences; `shuffled` anew in every epoch, from the seed")
      .one_of({"sequential", "shuffled"});

  s.key("train.steps", &c.train.steps, "optimiser steps").at_least(1).at_most(kMostSteps);
  s.key("train.global_batch", &c.train.global_batch, "sequences per optimiser step, over all processes")
      .at_least(1)
      .at_most(kMostSteps);
  s.key("train.micro_batch", &c.train.micro_batch,
        "sequences per forward and backward pass; divides global_batch")
      .at_least(1)
      .at_most(kMostSteps);
  s.key("train.recompute", &c.train.recompute,
        "what the backward pass computes again instead of keeping it: nothing; routed reads and norms; whole "
        "layers. Saves memory, changes no number; --dry-run shows what each costs")
      .one_of({"none", "norms", "layer"});
  s.key("train.cuda_graph", &c.train.cuda_graph,
        "on a GPU: record one micro-batch as a CUDA graph and replay it");
  s.key("train.max_bad_steps", &c.train.max_bad_steps,
        "the run stops after this many steps in a row with a non-finite loss or gradient")
      .at_least(1);
  describe_optimizer(s, c.optimizer);

  s.key("validate.every", &c.validate.every, "steps between validations; 0: never").at_least(0);
  s.key("validate.sequences", &c.validate.sequences,
        "the first this many of data.val, or all if there are fewer")
      .at_least(1)
      .at_most(kMostSteps);
  s.key("checkpoint.every", &c.checkpoint.every, "steps between checkpoints; 0: only after the last step")
      .at_least(0);
  s.key("checkpoint.keep", &c.checkpoint.keep, "newest checkpoints kept; 0: all").at_least(0);
  s.key("checkpoint.resume", &c.checkpoint.resume,
        "`auto`: from the newest whole checkpoint in output, if any; `never`; or a checkpoint folder");
  s.key("checkpoint.accept_changes", &c.checkpoint.accept_changes,
        "resume although keys that decide the result differ from the checkpoint's");
  describe_distributed(s, c.distributed);
  s.key("log.every", &c.log.every, "steps between lines of metrics.jsonl").at_least(1);
  return s;
}

void check_together(const TrainConfig& c, const Given& given) {
  const ResidualConfig& residual = c.model.residual;
  const std::string blocks = "model.residual.num_blocks", sublayers = "model.residual.sublayers_per_block";
  if (given.has(blocks) && given.has(sublayers))
    given.fail({sublayers},
               fmt::format("{} = {} and {} = {} say the same thing; give one, and null for the other",
                           sublayers, residual.sublayers_per_block, blocks, residual.num_blocks));
  // problem() starts with the key it is about.
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
  if (o.schedule != "constant" && o.lr_min > o.lr)
    given.fail({"optimizer.lr_min", "optimizer.lr"},
               fmt::format("optimizer.lr_min = {} is above optimizer.lr = {}", o.lr_min, o.lr));
}

TrainConfig parse_train_config(const std::string& text, const std::string& where,
                               const std::vector<std::string>& overrides) {
  const YamlDocument document = parse_yaml(text, where, overrides);
  TrainConfig config;
  check_together(config, read_fields(describe(config), document));
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
  return reference(describe(defaults));
}

}  // namespace depthroute
