// Every key of depthroute-eval: its field, range and meaning.
#include <fmt/format.h>

#include <cmath>

#include "configs/model_config.h"
#include "configs/read.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

constexpr double kLargestBias = 1e6;

// check_entries() (eval_cells.cpp) says which keys of an entry go together.
Schema describe_grid(GridConfig& g) {
  Schema s;
  s.key("families", &g.families,
        "source families; not for `uniform`, `schedule`, `freeze` and `hold`, which have no sources")
      .may_be_absent();
  s.key("edges", &g.edges, "`all`: every source of every chosen site by itself, instead of families");
  s.key("sublayers", &g.sublayers, "sublayers whose sites are touched; with edges, every site if absent")
      .may_be_absent();
  s.key("bands", &g.bands,
        "depth bands, thirds of the layers, for `attn` and `mlp`; with edges, every layer if neither bands "
        "nor layers are given")
      .may_be_absent();
  s.key("layers", &g.layers, "layers counted from 0, for `attn` and `mlp`; in addition to bands")
      .at_least(0)
      .may_be_absent();
  s.key("interventions", &g.interventions, "what is done at each site").must_be_given().not_empty();
  s.key("value", &g.value, "`bias`: the offset; `schedule`: its recency bias; required for these two")
      .at_least(-kLargestBias)
      .at_most(kLargestBias)
      .may_be_absent();
  s.key("distinct", &g.distinct, "touch every copy of a state that a site holds twice");
  s.key("replace", &g.replace,
        "`mean`, `resample` and `permute`: whether the keys, the values or both of a source are replaced; "
        "if absent, `both`, and for `permute` `values`")
      .may_be_absent();
  s.key("average", &g.average,
        "`mean` and `freeze`: means over all tokens of the calibration split, or over each position; `all` "
        "if absent")
      .may_be_absent();
  s.key("tokens", &g.tokens,
        "tokens whose reads are changed: all, those at position 0 of their sequence or the rest, or the "
        "first of each document");
  return s;
}

Schema describe_cell(CellConfig& c) {
  Schema s;
  s.key("name", &c.name, "name of the cell; no two cells may share one").must_be_given();
  s.key("sources", &c.source_families, &c.source_positions,
        "source families, or positions at a site counted from 0; not for `uniform`, `schedule`, `freeze` and "
        "`hold`")
      .at_least(0)
      .may_be_absent();
  s.key("sublayers", &c.sublayers, "sublayers whose sites are touched")
      .must_be_given_unless("union", !c.union_of.empty())
      .not_empty();
  s.key("bands", &c.bands,
        "depth bands, for `attn` and `mlp`; every layer if neither bands nor layers are given")
      .may_be_absent();
  s.key("layers", &c.layers, "layers counted from 0, for `attn` and `mlp`; in addition to bands")
      .at_least(0)
      .may_be_absent();
  s.key("intervention", &c.intervention, "what is done at each site")
      .must_be_given_unless("union", !c.union_of.empty());
  s.key("value", &c.value, "as in grids").at_least(-kLargestBias).at_most(kLargestBias).may_be_absent();
  s.key("distinct", &c.distinct, "as in grids");
  s.key("replace", &c.replace, "as in grids").may_be_absent();
  s.key("average", &c.average, "as in grids").may_be_absent();
  s.key("tokens", &c.tokens, "as in grids");
  s.key("first_token", &c.first_token,
        "first position of a sequence, counted from 0, whose reads are changed; 0 if absent")
      .at_least(0)
      .may_be_absent();
  s.key("last_token", &c.last_token, "last such position; the end of the sequence if absent")
      .at_least(0)
      .may_be_absent();
  s.key("union", &c.union_of,
        "other cells, grids' included, all of whose changes are made at once; only `name` and `per_token` go "
        "with it")
      .may_be_absent();
  s.key("per_token", &c.per_token, "store the change of the loss of every token");
  s.retired(
      "grid",
      " is an earlier spelling: grids have a list of their own, \"grids: [{families: [older], sublayers: "
      "[attn], bands: [mid], interventions: [mask]}]\"");
  return s;
}

Schema describe_claim(ClaimConfig& c) {
  Schema s;
  s.key("name", &c.name, "name of the claim; no two claims may share one").must_be_given();
  s.key("cell", &c.cell, "the cell whose effect is claimed").must_be_given();
  s.key("exceeds", &c.exceeds, "the cell it is compared with; none: with no effect").nullable(false);
  s.key("measure", &c.measure, "mean change of the loss, or mean KL divergence from the clean run");
  s.key("margin", &c.margin, "nats by which it must exceed").at_least(0);
  s.key("negative", &c.negative, "claim the opposite sign: that it falls short by more than margin");
  return s;
}

void describe_sample(Schema& s, EvalConfig& c) {
  const bool of_task = !c.data.requests.empty();
  s.key("data.sequences", &c.data.sequences, "sequences to evaluate").at_least(1).at_most(1e9).omitted =
      of_task;
  s.key("data.choose", &c.data.choose,
        "which windows of seq_len tokens: the `first`, in order; evenly `spaced`; a random sample "
        "(`shuffled`); or a random sample of `documents`, each from its first token and cut at seq_len")
      .omitted = of_task;
  s.key("data.seed", &c.data.seed, "seed of `shuffled`, of `documents` and of the splits").at_least(0);
  s.key(
       "data.separator", TokenOrList{&c.data.separator},
       "token, or sequence of tokens, that ends a document; none: the one that manifests beside the shards "
       "name, or else Megatron-LM datasets say where their documents begin, and of other shards every sequence is taken as a document")
      .at_least(0)
      .at_most(2147483647)
      .nullable(false)
      .may_be_absent();
  s.key("data.split", &c.data.split,
        "part of the data to evaluate on; the three splits are disjoint by document");
  const char* share = "share of the data in this split; the three sum to 1";
  s.key("splits.calibration", &c.splits.calibration, share).at_least(0).at_most(1);
  s.key("splits.exploration", &c.splits.exploration, share).at_least(0).at_most(1);
  s.key("splits.confirmation", &c.splits.confirmation, share).at_least(0).at_most(1);
  s.key("splits.calibration_sequences", &c.splits.calibration_sequences,
        "sequences of the calibration split that `mean` and `freeze` average over")
      .at_least(1)
      .at_most(1e9);
}

void check_sample(const EvalConfig& c, const Given& given) {
  if (!c.data.requests.empty())
    for (const char* key : {"data.shards", "data.seq_len", "data.sequences", "data.choose", "data.separator"})
      if (given.has(key))
        given.fail({key},
                   fmt::format("{} does not go with data.requests: all requests of the file are measured, "
                               "as they are",
                               key));
  const SplitsConfig& shares = c.splits;
  const double sum = shares.calibration + shares.exploration + shares.confirmation;
  if (!(std::abs(sum - 1) <= 1e-9))
    given.fail({"splits.calibration", "splits.exploration", "splits.confirmation"},
               fmt::format("the shares of splits sum to {:.9g}; make it 1: calibration {:.9g}, exploration "
                           "{:.9g}, confirmation {:.9g}",
                           sum, shares.calibration, shares.exploration, shares.confirmation));
  const auto empty = [&](Split split, double share) { return c.data.split == split && share == 0; };
  if (empty(Split::calibration, shares.calibration) || empty(Split::exploration, shares.exploration) ||
      empty(Split::confirmation, shares.confirmation))
    given.fail({"data.split"}, fmt::format("data.split: {0} is empty: splits.{0} is 0; give it a share",
                                           to_string(c.data.split)));
}

void describe_wrap(Schema& s, std::optional<WrapConfig>& wrap) {
  WrapConfig& w = s.own(wrap.value_or(WrapConfig{}));
  s.key("model.wrap", Group{[&wrap] { return wrap.has_value(); }, [&wrap, &w] { wrap = w; }},
        "run a plain Qwen3 or Llama as `cumulative`, its sites weighted by a fixed recency schedule")
      .nullable(false);
  s.key("model.wrap.recency_bias", ScalarOrList{&w.recency_bias},
        "offset of the current state's logit: one for all sites, or a list with one per site")
      .at_least(-kLargestBias)
      .at_most(kLargestBias)
      .not_empty();
  s.key("model.wrap.num_blocks", &w.num_blocks,
        "number of blocks, of 2 * ceil(num_layers / num_blocks) sublayers each")
      .at_least(1)
      .at_most(kMaxBlocks)
      .nullable(w.sublayers_per_block > 0);
  s.key("model.wrap.sublayers_per_block", &w.sublayers_per_block,
        "sublayers per block, instead of num_blocks")
      .at_least(1)
      .at_most(kMaxBlocks)
      .nullable(w.sublayers_per_block == 0);
}

}  // namespace

Schema describe(EvalConfig& c) {
  Schema s;
  s.key("output", &c.output, "HDF5 file of the results").must_be_given();
  s.key("device", &c.device, "`auto` is a GPU if there is one");
  s.key("precision", &c.precision,
        "dtype of activations and working weights; the CPU computes in fp32 regardless");
  s.key("micro_batch", &c.micro_batch, "sequences per forward pass").at_least(1).at_most(1e6);
  s.key("model.from", &c.model.from, "checkpoint, checkpoints/latest, or model folder").must_be_given();
  describe_wrap(s, c.model.wrap);
  const bool of_task = !c.data.requests.empty();
  s.key("data.shards", &c.data.shards,
        "token shards to evaluate on: llm.c's .bin or Megatron-LM's .idx; paths may hold * and ?")
      .must_be_given_unless("data.requests", of_task)
      .not_empty();
  s.key("data.requests", &c.data.requests,
        "requests of a benchmark task (tools/make_requests.py) to evaluate on instead: all of them, so that "
        "shards, seq_len, sequences, choose and separator do not go with it")
      .omitted = !of_task;
  s.key("data.seq_len", &c.data.seq_len, "tokens per sequence").at_least(1).at_most(1e9).omitted = of_task;
  describe_sample(s, c);
  s.key("routing.weights", &c.routing.weights, "`all` stores every routing weight of every token");
  s.key("routing.edge_estimates", &c.routing.edge_estimates,
        "estimate the effect of masking every edge to first order, with a backward pass for each batch");
  s.key("resample.donors", &c.resample.donors,
        "`resample`: sequences of other documents whose contents replace a sequence's, one after another; "
        "fewer than micro_batch")
      .at_least(1)
      .at_most(1e6);
  s.key("resample.seed", &c.resample.seed, "seed of the choice of donors").at_least(0);
  s.list_of("grids", &c.grids, describe_grid,
            "grids of cells: one cell for each combination, named intervention/family/sublayer/band");
  s.list_of("cells", &c.cells, describe_cell, "single cells, measured after those of the grids");
  s.list_of("claims", &c.claims, describe_claim,
            "contrasts between cells, written down before they are measured; judged on the confirmation "
            "split");
  s.key("statistics.bootstrap", &c.statistics.bootstrap, "draws of the paired bootstrap")
      .at_least(1)
      .at_most(1e8);
  s.key("statistics.alpha", &c.statistics.alpha, "level of intervals and tests").above(0).below(1);
  s.key("statistics.margin", &c.statistics.margin,
        "largest effect, in nats, that counts as negligible; judged by tools/analyze.py")
      .above(0);
  s.key("statistics.seed", &c.statistics.seed, "seed of the bootstrap draws").at_least(0);
  return s;
}

void check_together(const EvalConfig& c, const Given& given) {
  const std::string blocks = "model.wrap.num_blocks", sublayers = "model.wrap.sublayers_per_block";
  if (given.has(blocks) && given.has(sublayers))
    given.fail({sublayers},
               sublayers + " and " + blocks + " say the same thing; give one, and null for the other");
  check_sample(c, given);
  check_entries(c, given);
}

EvalConfig parse_eval_config(const std::string& text, const std::string& where,
                             const std::vector<std::string>& overrides) {
  const YamlDocument document = parse_yaml(text, where, overrides);
  EvalConfig config;
  check_together(config, read_fields(describe(config), document));
  return config;
}

std::string to_yaml(const EvalConfig& config) {
  EvalConfig copy = config;
  return to_yaml(describe(copy));
}

std::vector<std::pair<std::string, std::string>> flatten(const EvalConfig& config) {
  EvalConfig copy = config;
  return flatten(describe(copy));
}

std::string eval_reference() {
  EvalConfig defaults;
  return "## Keys of depthroute-eval\n\n" + reference(describe(defaults));
}

}  // namespace depthroute
