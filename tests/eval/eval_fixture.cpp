#include "tests/eval/eval_fixture.h"

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

EvalSession::EvalSession(const EvalConfig& eval_config)
    : config(eval_config), source(open_eval_model(eval_config, eval_config.model.from)) {
  const Qwen3Options options{
      .micro_batch = config.micro_batch, .seq_len = config.data.seq_len, .interventions = true};
  model = std::make_unique<Qwen3>(source.config, options, arena);
  ContentNeeds needs;
  for (const KnownAnswer& known_answer : make_known_answers(model->plan(), source.recency_bias))
    needs.add(model->plan(), known_answer.site_changes);
  evaluator = std::make_unique<Evaluator>(*model, arena, needs);
  arena.allocate();
  load_eval_model(stream, source, *model);
}

Evaluation EvalSession::run(const TokenStream& tokens, int64_t sequences,
                            const std::vector<Comparison>& comparisons, RoutingTrace* trace) {
  Evaluation evaluation;
  evaluation.seq_len = config.data.seq_len;
  evaluation.outcomes.resize(comparisons.size());
  const auto take = [&](BatchRecord&& record) {
    evaluation.append(record);
    if (trace) trace->add(record.routing);
  };
  measure(*make_single_world(), *evaluator, stream,
          {tokens, BatchRange::all(sequences, config.micro_batch), comparisons}, take);
  return evaluation;
}

}  // namespace depthroute
