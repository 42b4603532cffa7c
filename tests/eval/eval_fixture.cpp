#include "tests/eval/eval_fixture.h"

#include <cstring>

namespace depthroute {

std::vector<int32_t> random_tokens(int64_t count, int32_t vocab) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(
        static_cast<int32_t>(random_below(7, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab))));
  return tokens;
}

void write_shard(const std::string& path, const std::vector<int32_t>& tokens, int64_t vocab) {
  ShardWriter writer(path, vocab);
  writer.append(tokens);
  writer.close();
}

EvalConfig session_config(const std::string& model, int64_t micro_batch) {
  EvalConfig config;
  config.model.from = golden_folder(model);
  config.micro_batch = micro_batch;
  config.data.seq_len = 7;
  return config;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

std::vector<Comparison> comparisons_of(const std::vector<Cell>& cells) {
  std::vector<Comparison> list;
  for (const Cell& cell : cells)
    if (cell.runs())
      list.push_back(
          {cell.name, cell.name, cell.first_site, cell.site_changes, cell.repeats, cell.donor_seed});
  return list;
}

std::vector<Comparison> comparisons_of(const std::vector<KnownAnswer>& known_answers) {
  std::vector<Comparison> list;
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back(
        {known_answer.name, known_answer.name, known_answer.first_site, known_answer.site_changes});
  return list;
}

ContentNeeds needs_of(const DepthPlan& plan, const std::vector<Comparison>& comparisons) {
  ContentNeeds needs;
  for (const Comparison& comparison : comparisons) needs.add(plan, comparison.changes);
  return needs;
}

Evaluation assemble(const Sequences& sequences, const BatchRange& batches, size_t comparisons,
                    const std::vector<UnitRecord>& units, RoutingTrace* trace) {
  Evaluation evaluation;
  evaluation.outcomes.resize(comparisons);
  for (int64_t i = 0; i < batches.count; ++i) {
    CleanValues clean;
    std::vector<Outcome> outcomes(comparisons);
    for (const UnitRecord& unit : units) {
      if (unit.batch != batches.number(i)) continue;
      if (unit.has_clean) clean = unit.clean;
      for (size_t k = 0; k < unit.comparisons.size(); ++k) outcomes[unit.comparisons[k]] = unit.outcomes[k];
    }
    const SequenceRange range = batches.at(i);
    int64_t tokens = 0;
    for (int64_t s = range.first; s < range.first + range.size; ++s) tokens += sequences.tokens(s);
    evaluation.append(range.size, clean, outcomes);
    if (trace) trace->add(clean, tokens);
  }
  return evaluation;
}

EvalSession::EvalSession(const EvalConfig& eval_config, const ContentNeeds& needs)
    : config(eval_config), source(open_eval_model(eval_config, eval_config.model.from)) {
  const bool estimates = config.routing.edge_estimates;
  const Qwen3Options options{.micro_batch = config.micro_batch,
                             .seq_len = config.data.seq_len,
                             .training = estimates,
                             .recompute = estimates ? Recompute::layer : Recompute::none,
                             .logit_gradients = estimates,
                             .interventions = true};
  model = std::make_unique<Qwen3>(source.config, options, arena);
  evaluator = std::make_unique<Evaluator>(*model, needs, config.resample, arena);
  arena.allocate();
  load_eval_model(stream, source, *model);
}

Sequences EvalSession::windows(const TokenStream& tokens, int64_t sequences) const {
  EvalDataConfig data = config.data;
  data.choose = Choose::first;
  data.sequences = sequences;
  return Sequences(tokens, data, config.splits, Split::all, sequences);
}

Evaluation EvalSession::run(const TokenStream& tokens, int64_t sequences,
                            const std::vector<Comparison>& comparisons, RoutingTrace* trace) {
  return run(windows(tokens, sequences), comparisons, trace);
}

Evaluation EvalSession::run(const Sequences& sequences, const std::vector<Comparison>& comparisons,
                            RoutingTrace* trace) {
  const BatchRange batches = BatchRange::all(sequences.size(), config.micro_batch);
  std::vector<UnitRecord> units;
  measure(*make_single_world(), *evaluator, stream,
          {sequences, batches, comparisons, {.edge_estimates = config.routing.edge_estimates}},
          all_missing(batches, comparisons.size()),
          [&](UnitRecord&& unit) { units.push_back(std::move(unit)); });
  return assemble(sequences, batches, comparisons.size(), units, trace);
}

}  // namespace depthroute
