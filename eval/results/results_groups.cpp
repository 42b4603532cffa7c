// The groups of the results file, one function each.
#include <cmath>
#include <limits>

#include "eval/results/results_file.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Returns get(item) for every item.
template <typename T, typename Items, typename Get>
std::vector<T> column(const Items& items, Get get) {
  std::vector<T> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(get(item));
  return values;
}

template <typename T>
void put(Hdf5Writer& file, const std::string& path, const std::vector<T>& values,
         const std::vector<std::string>& scales, const VariableInfo& info) {
  file.write<T>(path, values, scales, info);
}

/// Writes `name`, `name_low`, `name_high` and `name_se`: one estimate per effect.
void put_estimates(Hdf5Writer& file, const std::string& path, const std::vector<Effect>& effects,
                   Estimate Effect::*which, const std::vector<std::string>& scales,
                   const VariableInfo& info) {
  const auto values = [&](double Estimate::*part) {
    return column<double>(effects, [&](const Effect& effect) { return effect.*which.*part; });
  };
  put(file, path, values(&Estimate::value), scales, info);
  put(file, path + "_low", values(&Estimate::low), scales,
      {info.units, info.long_name + ", lower end of its interval"});
  put(file, path + "_high", values(&Estimate::high), scales,
      {info.units, info.long_name + ", upper end of its interval"});
  put(file, path + "_se", values(&Estimate::standard_error), scales,
      {info.units, info.long_name + ", standard error"});
}

/// Returns sums per sequence, NaN where a cell did not run.
std::vector<double> by_sequence(const std::vector<Outcome>& outcomes, std::vector<double> Outcome::*which,
                                int64_t sequences) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) {
    const std::vector<double>& sums = outcome.*which;
    if (sums.empty()) {
      values.insert(values.end(), static_cast<size_t>(sequences), kNan);
    } else {
      values.insert(values.end(), sums.begin(), sums.end());
    }
  }
  return values;
}

}  // namespace

void ResultsFile::write_sites() {
  const int64_t widest = plan_.max_sources();
  file_.group("/site");
  std::vector<std::string> names, sublayers, bands;
  std::vector<int64_t> layers, blocks, counts, sources;
  std::vector<int64_t> states, duplicates;
  std::vector<uint8_t> restarts;
  for (int64_t j = 0; j < widest; ++j) sources.push_back(j);
  for (int index = 0; index < static_cast<int>(plan_.sites.size()); ++index) {
    const Site& site = plan_.sites[index];
    names.push_back(plan_.site_name(index));
    sublayers.push_back(to_string(site.sublayer));
    bands.push_back(to_string(plan_.band(index)));
    layers.push_back(site.layer);
    blocks.push_back(plan_.sublayers_per_block > 0 ? index / plan_.sublayers_per_block : 0);
    counts.push_back(site.num_sources());
    restarts.push_back(site.restart);
    for (int64_t j = 0; j < widest; ++j) {
      const bool there = j < site.num_sources();
      states.push_back(there ? site.sources[j] : -1);
      duplicates.push_back(there ? site.duplicate_of[j] : -1);
    }
  }
  file_.scale("/site/site", names, {"", "site: the place where a sublayer reads its input"});
  file_.scale("/site/source", sources,
              {"1", "position of a source at its site; the last is the current state"});
  const std::vector<std::string> per_site = {"/site/site"}, per_source = {"/site/site", "/site/source"};
  put(file_, "/site/layer", layers, per_site, {"1", "layer; the number of layers for the final site"});
  put(file_, "/site/sublayer", sublayers, per_site, {"", "attn, mlp or final"});
  put(file_, "/site/band", bands, per_site, {"", "depth band of the layer"});
  put(file_, "/site/block", blocks, per_site, {"1", "block the sublayer belongs to"});
  put(file_, "/site/n_sources", counts, per_site, {"1", "sources of the site"});
  put(file_, "/site/restart", restarts, per_site, {"1", "1 where the sublayer's output starts a new state"});
  put(file_, "/site/state", states, per_source, {"1", "state S_k a source is; -1 beyond n_sources"});
  put(file_, "/site/duplicate_of", duplicates, per_source,
      {"1", "first earlier source that is the same state; -1 if none"});
}

void ResultsFile::write_routing(const RoutingTrace& trace) {
  const size_t widest = static_cast<size_t>(plan_.max_sources());
  std::vector<double> mean(plan_.sites.size() * widest, kNan), std = mean, entropy;
  for (size_t site = 0; site < plan_.sites.size(); ++site) {
    for (int j = 0; j < plan_.sites[site].num_sources(); ++j) {
      const WeightMoments& moments = trace.moments(static_cast<int>(site), j);
      mean[site * widest + j] = moments.mean;
      std[site * widest + j] = moments.std();
    }
    entropy.push_back(trace.entropy(static_cast<int>(site)));
  }
  const std::vector<std::string> axes = {"/routing/site", "/routing/source"};
  put(file_, "/routing/mean", mean, axes, {"1", "mean weight over tokens, clean run"});
  put(file_, "/routing/std", std, axes, {"1", "standard deviation of the weight over tokens, clean run"});
  put(file_, "/routing/entropy", entropy, {"/routing/site"},
      {"nats", "mean entropy of the weights, clean run"});
}

void ResultsFile::write_clean(const Results& results) {
  const Evaluation& evaluation = results.evaluation;
  put(file_, "/sequence/tokens", evaluation.tokens, {"/sequence/sequence"},
      {"1", "target tokens that count"});
  std::vector<int64_t> first;
  for (int64_t i = 0; i < sequences_; ++i) first.push_back(i * seq_len_);
  put(file_, "/sequence/first_token", first, {"/sequence/sequence"},
      {"1", "place of its first token in the data"});
  put(file_, "/clean/nll", evaluation.clean_nll, {"/clean/sequence", "/clean/token"},
      {"nats/token", "negative log-likelihood of the next token, clean run"});
  const auto scalar = [&](const std::string& name, double value, const VariableInfo& info) {
    file_.write<double>("/clean/" + name, std::vector<double>{value}, {}, info);
  };
  const std::string name = "mean negative log-likelihood, clean run";
  scalar("mean_nll", results.clean.value, {"nats/token", name});
  scalar("mean_nll_low", results.clean.low, {"nats/token", name + ", lower end of its interval"});
  scalar("mean_nll_high", results.clean.high, {"nats/token", name + ", upper end of its interval"});
  scalar("mean_nll_se", results.clean.standard_error, {"nats/token", name + ", standard error"});
  scalar("perplexity", std::exp(results.clean.value),
         {"1", "exp of the mean negative log-likelihood, clean run"});
}

void ResultsFile::write_cells(const Results& results) {
  const std::vector<Cell>& cells = results.cells;
  const std::vector<std::string> axis = {"/cell/cell"};
  const auto text = [&](const std::string& name, const std::string& long_name, auto get) {
    put(file_, "/cell/" + name, column<std::string>(cells, get), axis, {"", long_name});
  };
  const auto count = [&](const std::string& name, const std::string& long_name, auto get) {
    put(file_, "/cell/" + name, column<int64_t>(cells, get), axis, {"1", long_name});
  };
  const auto flag = [&](const std::string& name, const std::string& long_name, const std::string& meanings,
                        auto get) {
    put(file_, "/cell/" + name, column<uint8_t>(cells, get), axis, {"1", long_name});
    file_.attribute("/cell/" + name, "flag_values", std::vector<uint8_t>{0, 1});
    file_.attribute("/cell/" + name, "flag_meanings", meanings);
  };
  file_.group("/cell");
  file_.scale("/cell/cell", column<std::string>(cells, [](const Cell& cell) { return cell.name; }),
              {"", "name of the cell"});
  text("name", "name of the cell", [](const Cell& cell) { return cell.name; });
  text("family", "source family or positions", [](const Cell& cell) { return cell.family; });
  text("sublayer", "kind of sublayer", [](const Cell& cell) { return cell.sublayer; });
  text("band", "depth band or layers", [](const Cell& cell) { return cell.band; });
  text("intervention", "what is done", [](const Cell& cell) { return cell.intervention_name(); });
  text("status", "measured, or not_run where no site is ablated",
       [](const Cell& cell) { return std::string(cell.runs() ? "measured" : "not_run"); });
  flag("status_code", "status as a number", "not_run measured", [](const Cell& cell) { return cell.runs(); });
  flag("distinct", "every copy of a duplicated state is touched", "no yes",
       [](const Cell& cell) { return cell.distinct; });
  put(file_, "/cell/value", column<double>(cells, [](const Cell& cell) { return cell.value; }), axis,
      {"1", "offset of bias, b of schedule"});
  count("sites_ablated", "sites the intervention changes",
        [](const Cell& cell) { return cell.sites_ablated; });
  count("sites_skipped", "sites left as they are: nothing would be left",
        [](const Cell& cell) { return cell.sites_skipped; });
  count("sites_absent", "sites left as they are: no such source",
        [](const Cell& cell) { return cell.sites_absent; });
  count("sites_duplicate", "ablated sites where a touched source has an untouched copy",
        [](const Cell& cell) { return cell.sites_duplicate; });
  count("first_site", "first ablated site; the number of sites if none",
        [](const Cell& cell) { return cell.first_site; });
}

void ResultsFile::write_cell_effects(const Results& results) {
  const std::vector<std::string> axis = {"/cell/cell"};
  put_estimates(file_, "/cell/delta_nll", results.effects, &Effect::delta_nll, axis,
                {"nats/token", "change of negative log-likelihood, ablated minus clean"});
  put_estimates(file_, "/cell/kl", results.effects, &Effect::kl, axis,
                {"nats/token", "Kullback-Leibler divergence of the ablated from the clean prediction"});
  put_estimates(file_, "/cell/flip_rate", results.effects, &Effect::flip_rate, axis,
                {"1", "share of tokens whose most likely next token changed"});
  put(file_, "/cell/mass", column<double>(results.effects, [](const Effect& effect) { return effect.mass; }),
      axis, {"1", "mean over ablated sites of the clean weight on the cell's sources (only: on those kept)"});
  put(file_, "/cell/eps_sensitivity",
      column<double>(results.effects, [](const Effect& effect) { return effect.eps_sensitivity; }), axis,
      {"nats/token", "delta_nll of mask minus that of zero on the same sources: what rms_norm_eps does"});
  put(file_, "/cell/largest_change",
      column<double>(
          results.cell_outcomes,
          [](const Outcome& outcome) { return outcome.kl.empty() ? kNan : outcome.largest_change; }),
      axis, {"nats", "largest |delta nll| or divergence of any token"});

  file_.link("/sequence/sequence", "/cell/sequence");
  const std::vector<std::string> axes = {"/cell/cell", "/cell/sequence"};
  const auto sums = [&](const std::string& name, std::vector<double> Outcome::*which,
                        const VariableInfo& info) {
    put(file_, "/cell/" + name, by_sequence(results.cell_outcomes, which, sequences_), axes, info);
  };
  sums("delta_nll_by_sequence", &Outcome::delta_nll, {"nats", "sum over tokens of the change of nll"});
  sums("kl_by_sequence", &Outcome::kl, {"nats", "sum over tokens of the divergence"});
  sums("flips_by_sequence", &Outcome::flips, {"1", "tokens whose most likely next token changed"});
}

void ResultsFile::write_plan(const Results& results) {
  const size_t widest = static_cast<size_t>(plan_.max_sources()), sites = plan_.sites.size();
  std::vector<uint8_t> sources(results.cells.size() * sites * widest, 0);
  for (size_t cell = 0; cell < results.cells.size(); ++cell) {
    const auto at = [&](const Edge& edge) -> uint8_t& {
      return sources[(cell * sites + static_cast<size_t>(edge.site)) * widest +
                     static_cast<size_t>(edge.source)];
    };
    for (const Edge& edge : results.cells[cell].sources) at(edge) = 1;
    for (const Edge& edge : results.cells[cell].skipped_sources) at(edge) = 2;
  }
  file_.group("/plan");
  file_.link("/cell/cell", "/plan/cell");
  file_.link("/site/site", "/plan/site");
  file_.link("/site/source", "/plan/source");
  put(file_, "/plan/sources", sources, {"/plan/cell", "/plan/site", "/plan/source"},
      {"1", "sources a cell is aimed at (only: the sources it keeps)"});
  file_.attribute("/plan/sources", "flag_values", std::vector<uint8_t>{0, 1, 2});
  file_.attribute("/plan/sources", "flag_meanings", std::string("not_aimed_at ablated site_skipped"));
}

void ResultsFile::write_known_answers(const Results& results) {
  file_.group("/control");
  const std::vector<std::string> axis = {"/control/control"};
  file_.scale("/control/control",
              column<std::string>(results.known_answers,
                                  [](const KnownAnswer& known_answer) { return known_answer.name; }),
              {"", "name of the control"});
  put(file_, "/control/expectation",
      column<std::string>(results.known_answers,
                          [](const KnownAnswer& known_answer) { return known_answer.expectation; }),
      axis, {"", "what it should give"});
  put(file_, "/control/limit",
      column<double>(results.known_answers,
                     [](const KnownAnswer& known_answer) { return known_answer.limit; }),
      axis, {"nats", "largest_change that passes; NaN where it is not judged"});
  put_estimates(file_, "/control/delta_nll", results.known_answer_effects, &Effect::delta_nll, axis,
                {"nats/token", "change of negative log-likelihood"});
  put_estimates(file_, "/control/kl", results.known_answer_effects, &Effect::kl, axis,
                {"nats/token", "Kullback-Leibler divergence from the clean prediction"});
  put_estimates(file_, "/control/flip_rate", results.known_answer_effects, &Effect::flip_rate, axis,
                {"1", "share of tokens whose most likely next token changed"});
  put(file_, "/control/largest_change",
      column<double>(results.known_answer_outcomes,
                     [](const Outcome& outcome) { return outcome.largest_change; }),
      axis, {"nats", "largest |delta nll| or divergence of any token"});
  std::vector<uint8_t> passed;
  for (size_t i = 0; i < results.known_answers.size(); ++i) {
    const KnownAnswer& known_answer = results.known_answers[i];
    passed.push_back(
        known_answer.judged() ? known_answer.passes(results.known_answer_outcomes[i].largest_change) : 2);
  }
  put(file_, "/control/passed", passed, axis, {"1", "whether it gave what it should"});
  file_.attribute("/control/passed", "flag_values", std::vector<uint8_t>{0, 1, 2});
  file_.attribute("/control/passed", "flag_meanings", std::string("failed passed not_judged"));
  file_.attribute("/control", "parameters_checksum_before", results.provenance.parameters_before);
  file_.attribute("/control", "parameters_checksum_after", results.provenance.parameters_after);
  if (!results.provenance.wrapped) return;
  file_.attribute("/control", "wrapper_largest_deviation", results.wrapper.largest_deviation);
  file_.attribute("/control", "wrapper_largest_std", results.wrapper.largest_std);
}

}  // namespace depthroute
