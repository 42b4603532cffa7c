// Every key of depthroute-eval: its field, its range, its meaning.
#include <memory>

#include "configs/eval_cells.h"
#include "configs/read.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

// An entry of `cells` is either a grid or one cell by name; check_cell (eval_cells.cpp) says which keys go
// together.
Schema describe_cell(CellConfig& c) {
  Schema s;
  const bool value_used = uses_value(c);
  s.key("grid", Group{[&c] { return c.is_grid; }, [&c] { c.is_grid = true; }},
        "the product of the lists below, one cell each, named intervention/family/sublayer/band")
      .hide_if(!c.is_grid);
  s.key("grid.families", &c.families, "source families, for interventions that have sources")
      .one_of(family_names())
      .not_empty()
      .hide_if(!c.is_grid || c.families.empty());
  s.key("grid.edges", WordFlag{&c.edges, "all"}, "every source of every site by itself, instead of the lists")
      .hide_if(!c.is_grid || !c.edges);
  s.key("grid.sublayers", &c.grid_sublayers, "sublayers whose sites are touched; `final` has no band")
      .one_of(sublayer_names())
      .not_empty()
      .hide_if(!c.is_grid || c.grid_sublayers.empty());
  s.key("grid.bands", &c.bands, "depth bands: thirds of the layers")
      .one_of(band_names())
      .not_empty()
      .hide_if(!c.is_grid || c.bands.empty());
  s.key("grid.interventions", &c.interventions, "what is done at each site; required in a grid")
      .one_of(intervention_names())
      .not_yet(planned_intervention_names())
      .not_empty()
      .hide_if(!c.is_grid);
  s.key("grid.value", &c.value, "`bias`: the offset; `schedule`: its recency bias; required for these two")
      .at_least(-1e6)
      .at_most(1e6)
      .hide_if(!c.is_grid || !value_used)
      .without_default();
  s.key("grid.distinct", &c.distinct, "touch every copy of a state that a site holds twice")
      .hide_if(!c.is_grid || !c.distinct);

  s.key("name", &c.name, "name of this one cell; required outside a grid").hide_if(c.is_grid);
  s.key("sources", Sources{&c.source_families, &c.source_positions},
        "source families, or positions at a site counted from 0; not for `uniform` and `schedule`")
      .one_of(family_names())
      .at_least(0)
      .not_empty()
      .hide_if(c.is_grid || (c.source_families.empty() && c.source_positions.empty()));
  s.key("sublayers", &c.sublayers, "sublayers whose sites are touched; required outside a grid")
      .one_of(sublayer_names())
      .not_empty()
      .hide_if(c.is_grid);
  s.key("bands", &c.cell_bands, "depth bands, for `attn` and `mlp`; without bands and layers: every layer")
      .one_of(band_names())
      .not_empty()
      .hide_if(c.is_grid || c.cell_bands.empty());
  s.key("layers", &c.layers, "layers counted from 0, for `attn` and `mlp`; beside bands or instead of them")
      .at_least(0)
      .not_empty()
      .hide_if(c.is_grid || c.layers.empty());
  s.key("intervention", &c.intervention, "what is done at each site; required outside a grid")
      .one_of(intervention_names())
      .not_yet(planned_intervention_names())
      .hide_if(c.is_grid);
  s.key("value", &c.value, "as grid.value")
      .at_least(-1e6)
      .at_most(1e6)
      .hide_if(c.is_grid || !value_used)
      .without_default();
  s.key("distinct", &c.distinct, "as grid.distinct").hide_if(c.is_grid || !c.distinct);
  return s;
}

void describe_wrap(Schema& s, std::optional<WrapConfig>& wrap) {
  WrapConfig& w = s.own(wrap.value_or(WrapConfig{}));
  s.key("model.wrap", Group{[&wrap] { return wrap.has_value(); }, [&wrap, &w] { wrap = w; }},
        "run a plain Qwen3 as `cumulative`, its sites weighted by a fixed recency schedule")
      .nullable(false);
  s.key("model.wrap.recency_bias", ScalarOrList{&w.recency_bias},
        "offset on the current state, or one per site")
      .at_least(-1e6)
      .at_most(1e6)
      .not_empty();
  s.key("model.wrap.num_blocks", &w.num_blocks,
        "blocks; gives 2 * ceil(num_layers / num_blocks) sublayers each")
      .at_least(1)
      .at_most(8192)
      .nullable(w.sublayers_per_block > 0);
  s.key("model.wrap.sublayers_per_block", &w.sublayers_per_block,
        "the same said directly, instead of num_blocks")
      .at_least(1)
      .at_most(8192)
      .nullable(w.sublayers_per_block == 0);
}

}  // namespace

Schema describe(EvalConfig& c) {
  Schema s;
  s.key("output", &c.output, "HDF5 file of the results").must_be_given();
  s.key("device", &c.device, "`auto` is a GPU where there is one").one_of({"auto", "cpu", "cuda"});
  s.key("precision", &c.precision,
        "of activations and weights in use; the CPU computes in fp32 whatever is asked")
      .one_of({"bf16", "fp32"});
  s.key("micro_batch", &c.micro_batch, "sequences per forward pass").at_least(1).at_most(1e6);
  s.key("model.from", &c.model.from, "checkpoint, checkpoints/latest, or model folder").must_be_given();
  describe_wrap(s, c.model.wrap);
  s.key("data.shards", &c.data.shards, "token shards to evaluate on; paths may hold * and ?")
      .must_be_given()
      .not_empty();
  s.key("data.seq_len", &c.data.seq_len, "tokens per sequence").at_least(1).at_most(1e9);
  s.key("data.sequences", &c.data.sequences, "the first this many windows, in order")
      .at_least(1)
      .at_most(1e9);
  s.key("routing.weights", &c.routing.weights, "`all` stores every routing weight of every token")
      .one_of({"none", "all"});
  std::vector<CellConfig>& cells = c.cells;
  s.key("cells",
        EntryList{[&cells] { return static_cast<int64_t>(cells.size()); },
                  [&cells](int64_t i) { return describe_cell(cells[static_cast<size_t>(i)]); },
                  [&cells](int line) {
                    cells.emplace_back().line = line;
                    return describe_cell(cells.back());
                  },
                  [] {
                    const auto cell = std::make_shared<CellConfig>();
                    Schema schema = describe_cell(*cell);
                    schema.own(cell);
                    return schema;
                  }},
        "interventions to measure, each entry a grid or one cell");
  s.key("statistics.bootstrap", &c.statistics.bootstrap, "draws of the paired bootstrap")
      .at_least(1)
      .at_most(1e8);
  s.key("statistics.alpha", &c.statistics.alpha, "level of intervals and tests").above(0).below(1);
  s.key("statistics.margin", &c.statistics.margin,
        "effects within this many nats are to count as negligible; kept in the results, not judged yet")
      .above(0);
  s.key("statistics.seed", &c.statistics.seed, "seed of the draws").at_least(0);
  return s;
}

void check_together(const EvalConfig& c, const Given& given) {
  const std::string blocks = "model.wrap.num_blocks", sublayers = "model.wrap.sublayers_per_block";
  if (given.has(blocks) && given.has(sublayers))
    given.fail({sublayers},
               sublayers + " and " + blocks + " say the same thing; give one, and null for the other");
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
  return reference(describe(defaults));
}

}  // namespace depthroute
