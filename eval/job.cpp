#include "eval/job.h"

#include "configs/read.h"
#include "data/files.h"
#include "train/model/weights.h"

namespace depthroute {

std::string config_hash(const EvalConfig& config) {
  EvalConfig same = config;
  same.output.clear();  // where the results go is not part of what they are
  const std::string text = to_yaml(same);
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

Job::Job(const EvalConfig& eval_config, const std::string& model)
    : config(eval_config),
      source(open_eval_model(config, model.empty() ? config.model.from : model)),
      tokens(open_eval_tokens(config, source.config.vocab_size)),
      plan(make_depth_plan(source.config)),
      cells(resolve_cells(config.grids, config.cells, plan)),
      known_answers(make_known_answers(plan, source.recency_bias)) {}

std::vector<Comparison> Job::comparisons() const {
  std::vector<Comparison> list;
  for (const Cell& cell : cells)
    if (cell.runs()) list.push_back({cell.name, cell.first_site, cell.site_interventions});
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back({known_answer.name, known_answer.first_site, known_answer.site_interventions});
  return list;
}

Provenance Job::provenance(const CommandLine& command) const {
  Provenance from;
  from.command_line = command.text;
  from.config_yaml = to_yaml(config);
  from.config_hash = config_hash(config);
  from.checkpoint_path = source.folder.path();
  from.checkpoint_checksum = model_checksum(source.folder);
  for (size_t i = 0; i < tokens.shards().size(); ++i) {
    const ShardContents contents = tokens.read_contents(i);
    tokens.check_vocabulary(i, contents);
    from.data_paths.push_back(tokens.shards()[i].path);
    from.data_checksums.push_back(contents.checksum);
  }
  from.seed = config.statistics.seed;
  from.wrapped = source.wrapped();
  return from;
}

PartLayout Job::layout(const BatchRange& batches) const {
  PartLayout layout{plan, batches, config.data.seq_len, {}, stores_weights()};
  for (const Comparison& comparison : comparisons()) layout.comparisons.push_back(comparison.name);
  return layout;
}

Engine::Engine(const Job& job, Device device)
    : arena(device),
      model(job.source.config,
            {.micro_batch = job.micro_batch(),
             .seq_len = job.config.data.seq_len,
             .activations = working_type(device, job.config.precision)},
            arena),
      evaluator(model, arena) {}

void Engine::check(const Job& job) const {
  if (job.source.wrapped()) {
    check_wrapped_parameters(job.source.folder, model.layout());
  } else {
    check_parameters(job.source.folder, model.layout());
  }
}

void Engine::load(const Job& job) {
  stream = make_stream(arena.device());
  arena.allocate();
  load_eval_model(stream, job.source, model);
}

std::string Engine::parameters() const {
  return parameters_checksum(stream, model.layout(), model.parameters());
}

}  // namespace depthroute
