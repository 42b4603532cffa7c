#include "tests/eval/planted/planted_run.h"

#include <filesystem>

#include "configs/base/check.h"

namespace depthroute {
namespace {

constexpr int64_t kLength = 7;

std::vector<int32_t> cycle(int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(i % PlantedModel::kVocab));
  return tokens;
}

}  // namespace

PlantedRun::PlantedRun(const PlantedModel& model, const std::vector<GridConfig>& grids,
                       const std::vector<CellConfig>& cells, const PlantedOptions& options) {
  std::filesystem::create_directory(folder_ / "model");
  model.save(folder_ / "model");
  write_shard(folder_ / "tokens.bin",
              options.tokens.empty() ? cycle(options.sequences * kLength + 1) : options.tokens,
              PlantedModel::kVocab);
  stream_ =
      std::make_unique<TokenStream>(std::vector<std::string>{folder_ / "tokens.bin"}, PlantedModel::kVocab);
  EvalConfig config;
  config.model.from = folder_ / "model";
  config.micro_batch = 8;
  config.data.seq_len = kLength;
  config.routing.edge_estimates = options.edge_estimates;

  results_.plan = &model.plan();
  results_.cells = resolve_cells(grids, cells, model.plan(), config.resample);
  const Comparisons comparisons = make_comparisons(model.plan(), results_.cells, {}, "", "");
  results_.comparison_of_cell = comparisons.of_cell;
  const ContentNeeds needs = needs_of(model.plan(), comparisons.list);
  session_ = std::make_unique<EvalSession>(config, needs);
  sequences_ = std::make_unique<Sequences>(session_->windows(*stream_, options.sequences));
  if (needs.calibration()) session_->evaluator->calibrate(session_->stream, *sequences_);
  trace_ = std::make_unique<RoutingTrace>(session_->model->plan());
  results_.trace = trace_.get();
  results_.sequences = sequences_.get();
  results_.unigram_entropy = unigram_entropy(*sequences_);
  results_.evaluation = session_->run(*sequences_, comparisons.list, trace_.get());
  const BootstrapOptions bootstrap{.draws = 100};
  BootstrapMemory memory(bootstrap.draws, sequences_->documents(),
                         analyzed_quantities(static_cast<int64_t>(comparisons.list.size())));
  analyze(results_, bootstrap, memory);
}

size_t PlantedRun::index_of(const std::string& name) const {
  for (size_t i = 0; i < cells().size(); ++i)
    if (cells()[i].name == name) return i;
  DR_CHECK_MSG(false, name.c_str());
  return 0;
}

const Outcome& PlantedRun::outcome(const std::string& name) const {
  return results_.outcome_of(results_.comparison_of_cell, index_of(name));
}

double PlantedRun::edge_estimate(int site, int source) const {
  const DepthPlan& plan = session_->model->plan();
  const size_t sites = plan.sites.size(), widest = static_cast<size_t>(plan.max_sources());
  const std::vector<double>& sums = results_.evaluation.clean[CleanColumn::edge_estimate];
  double total = 0;
  for (size_t segment = 0; segment < sequences_->segments().size(); ++segment)
    total += sums.at((segment * sites + static_cast<size_t>(site)) * widest + static_cast<size_t>(source));
  return total / tokens();
}

CellConfig cell_at(const PlantedModel& model, const std::string& name, Intervention intervention, int site,
                   int source) {
  const Site& at = model.plan().sites[site];
  CellConfig cell;
  cell.name = name;
  cell.intervention = intervention;
  cell.sublayers = {at.sublayer};
  if (at.sublayer != Sublayer::final) cell.layers = {at.layer};
  if (!acts_on_all_sources(intervention)) cell.source_positions = {source};
  return cell;
}

CellConfig union_cell(const std::string& name, const std::vector<std::string>& members) {
  CellConfig cell;
  cell.name = name;
  cell.union_of = members;
  return cell;
}

GridConfig all_edges() {
  GridConfig grid;
  grid.edges = EdgeChoice::all;
  grid.interventions = {Intervention::mask};
  return grid;
}

}  // namespace depthroute
