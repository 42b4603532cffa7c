// Every key of depthroute-eval: its field, range and meaning.
#include "configs/read.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

constexpr double kLargestBias = 1e6;

// check_grid() and check_cell() (eval_cells.cpp) say which keys of an entry go together.
Schema describe_grid(GridConfig& g) {
  Schema s;
  s.key("families", &g.families, "source families; not for `uniform` and `schedule`, which have no sources")
      .may_be_absent();
  s.key("edges", &g.edges, "`all`: every source of every site by itself, instead of families and bands");
  s.key("sublayers", &g.sublayers, "sublayers whose sites are touched; with edges, every site if absent")
      .may_be_absent();
  s.key("bands", &g.bands, "depth bands, thirds of the layers; for `attn` and `mlp`").may_be_absent();
  s.key("interventions", &g.interventions, "what is done at each site").must_be_given().not_empty();
  s.key("value", &g.value, "`bias`: the offset; `schedule`: its recency bias; required for these two")
      .at_least(-kLargestBias)
      .at_most(kLargestBias)
      .may_be_absent();
  s.key("distinct", &g.distinct, "touch every copy of a state that a site holds twice");
  return s;
}

Schema describe_cell(CellConfig& c) {
  Schema s;
  s.key("name", &c.name, "name of the cell; no two cells may share one").must_be_given();
  s.key("sources", &c.source_families, &c.source_positions,
        "source families, or positions at a site counted from 0; not for `uniform` and `schedule`")
      .at_least(0)
      .may_be_absent();
  s.key("sublayers", &c.sublayers, "sublayers whose sites are touched").must_be_given().not_empty();
  s.key("bands", &c.bands,
        "depth bands, for `attn` and `mlp`; every layer if neither bands nor layers are given")
      .may_be_absent();
  s.key("layers", &c.layers, "layers counted from 0, for `attn` and `mlp`; in addition to bands")
      .at_least(0)
      .may_be_absent();
  s.key("intervention", &c.intervention, "what is done at each site").must_be_given();
  s.key("value", &c.value, "as in grids").at_least(-kLargestBias).at_most(kLargestBias).may_be_absent();
  s.key("distinct", &c.distinct, "as in grids");
  s.retired(
      "grid",
      " is an earlier spelling: grids have a list of their own, \"grids: [{families: [older], sublayers: "
      "[attn], bands: [mid], interventions: [mask]}]\"");
  return s;
}

void describe_wrap(Schema& s, std::optional<WrapConfig>& wrap) {
  WrapConfig& w = s.own(wrap.value_or(WrapConfig{}));
  s.key("model.wrap", Group{[&wrap] { return wrap.has_value(); }, [&wrap, &w] { wrap = w; }},
        "run a plain Qwen3 as `cumulative`, its sites weighted by a fixed recency schedule")
      .nullable(false);
  s.key("model.wrap.recency_bias", ScalarOrList{&w.recency_bias},
        "offset of the current state's logit: one for all sites, or a list with one per site")
      .at_least(-kLargestBias)
      .at_most(kLargestBias)
      .not_empty();
  s.key("model.wrap.num_blocks", &w.num_blocks,
        "number of blocks, of 2 * ceil(num_layers / num_blocks) sublayers each")
      .at_least(1)
      .at_most(8192)
      .nullable(w.sublayers_per_block > 0);
  s.key("model.wrap.sublayers_per_block", &w.sublayers_per_block,
        "sublayers per block, instead of num_blocks")
      .at_least(1)
      .at_most(8192)
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
  s.key("data.shards", &c.data.shards, "token shards to evaluate on; paths may hold * and ?")
      .must_be_given()
      .not_empty();
  s.key("data.seq_len", &c.data.seq_len, "tokens per sequence").at_least(1).at_most(1e9);
  s.key("data.sequences", &c.data.sequences, "evaluate the first this many windows, in order")
      .at_least(1)
      .at_most(1e9);
  s.key("routing.weights", &c.routing.weights, "`all` stores every routing weight of every token");
  s.list_of("grids", &c.grids, describe_grid,
            "grids of cells: one cell for each combination, named intervention/family/sublayer/band");
  s.list_of("cells", &c.cells, describe_cell, "single cells, measured after those of the grids");
  s.key("statistics.bootstrap", &c.statistics.bootstrap, "draws of the paired bootstrap")
      .at_least(1)
      .at_most(1e8);
  s.key("statistics.alpha", &c.statistics.alpha, "level of intervals and tests").above(0).below(1);
  s.key("statistics.margin", &c.statistics.margin,
        "largest effect, in nats, that counts as negligible; recorded in the results, not judged yet")
      .above(0);
  s.key("statistics.seed", &c.statistics.seed, "seed of the bootstrap draws").at_least(0);
  return s;
}

void check_together(const EvalConfig& c, const Given& given) {
  const std::string blocks = "model.wrap.num_blocks", sublayers = "model.wrap.sublayers_per_block";
  if (given.has(blocks) && given.has(sublayers))
    given.fail({sublayers},
               sublayers + " and " + blocks + " say the same thing; give one, and null for the other");
  for (size_t i = 0; i < c.grids.size(); ++i)
    check_grid(c.grids[i], "grids[" + std::to_string(i) + "]", given);
  for (size_t i = 0; i < c.cells.size(); ++i)
    check_cell(c.cells[i], "cells[" + std::to_string(i) + "]", given);
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
