// Measures cells on a planted model as the program does: model folder, resolved cells, comparisons, units,
// effects.
#pragma once

#include <string>
#include <vector>

#include "eval/analysis/effects.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/planted/planted_model.h"

namespace depthroute {

inline constexpr double kAnswerLost = 2.772588722239781;  // ln 16: what an even guess among 16 tokens costs

struct PlantedOptions {
  std::vector<int32_t> tokens;  // empty: every token is followed by the next one, and 15 by 0
  int64_t sequences = 16;       // of 7 tokens; with the default tokens, no two begin with the same one
  bool edge_estimates = false;
};

class PlantedRun {
 public:
  PlantedRun(const PlantedModel& model, const std::vector<GridConfig>& grids,
             const std::vector<CellConfig>& cells, const PlantedOptions& options = {});
  PlantedRun(const PlantedRun&) = delete;
  PlantedRun& operator=(const PlantedRun&) = delete;

  const std::vector<Cell>& cells() const { return results_.cells; }
  const Results& results() const { return results_; }
  const Cell& cell(const std::string& name) const { return cells()[index_of(name)]; }
  const Effect& effect(const std::string& name) const { return results_.effects[index_of(name)]; }
  const Outcome& outcome(const std::string& name) const;
  /// Per token.
  double delta(const std::string& name) const { return effect(name)[CellColumn::delta_nll].value; }
  double tokens() const { return static_cast<double>(results_.trace->tokens()); }
  /// Mean first-order estimate per token of masking a source.
  double edge_estimate(int site, int source) const;
  EvalSession& session() { return *session_; }
  const Sequences& sequences() const { return *sequences_; }

 private:
  size_t index_of(const std::string& name) const;

  TempFolder folder_;
  std::unique_ptr<TokenStream> stream_;
  std::unique_ptr<EvalSession> session_;
  std::unique_ptr<Sequences> sequences_;
  std::unique_ptr<RoutingTrace> trace_;
  Results results_;
};

/// A cell of one source at one site.
CellConfig cell_at(const PlantedModel& model, const std::string& name, Intervention intervention, int site,
                   int source);
/// A cell of everything that two or more others do.
CellConfig union_cell(const std::string& name, const std::vector<std::string>& members);
/// The mask of every edge.
GridConfig all_edges();

}  // namespace depthroute
