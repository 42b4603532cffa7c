#include "eval/input.h"

#include <fmt/ranges.h>

#include <filesystem>
#include <map>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/read.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "train/model/weights.h"

namespace depthroute {
namespace {

std::string hash_text(const std::string& text) {
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

ModelConfig wrapped_config(const ModelConfig& plain, const WrapConfig& wrap) {
  ModelConfig config = plain;
  config.residual.variant = Variant::cumulative;
  config.residual.num_blocks = wrap.num_blocks;
  config.residual.sublayers_per_block = wrap.sublayers_per_block;
  config.residual.recency_bias = wrap.recency_bias.front();
  if (const std::string problem = config.problem(); !problem.empty())
    throw ConfigError("model.wrap: {}", problem);
  const size_t sites = make_depth_plan(config).sites.size(), given = wrap.recency_bias.size();
  if (given != 1 && given != sites)
    throw ConfigError("model.wrap.recency_bias has {} values; the wrapped model has {} sites: give 1 or {}",
                      given, sites, sites);
  return config;
}

bool needs_calibration(const DepthPlan& plan, std::span<const SiteChange> changes) {
  ContentNeeds needs;
  needs.add(plan, changes);
  return needs.calibration();
}

bool any_needs_calibration(const DepthPlan& plan, const std::vector<Cell>& cells) {
  for (const Cell& cell : cells)
    if (cell.runs() && needs_calibration(plan, cell.site_changes)) return true;
  return false;
}

/// Refuses requests that another tokenizer made. A model folder without tokenizer.json cannot tell.
void check_tokenizer(const RequestFile& requests, const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  if (requests.tokenizer().empty() || !exists(path)) return;
  if (hash_file(path) != requests.tokenizer())
    throw DataError(
        "{}: its tokens were made with another tokenizer than {}: make the requests with the model's own folder",
        requests.path(), path);
}

/// Refuses cells whose positions no request reaches; of shards the configuration has been checked already.
void check_positions(const std::vector<CellConfig>& cells, const Sequences& sequences) {
  for (const CellConfig& cell : cells)
    if (cell.first_token.value_or(0) >= sequences.seq_len())
      throw ConfigError(
          "cell '{}': first_token = {} is beyond the last position; the longest request has {} tokens",
          cell.name, *cell.first_token, sequences.seq_len());
}

/// Checks every batch for donors.
void check_batches(const Sequences& sequences, const BatchRange& batches, int64_t donors) {
  std::vector<std::vector<int64_t>> documents(static_cast<size_t>(sequences.size()));
  for (const Segment& segment : sequences.segments()) documents[segment.sequence].push_back(segment.document);
  for (int64_t i = 0; i < batches.count; ++i) {
    const SequenceRange range = batches.at(i);
    std::vector<BatchSequence> batch;
    for (int64_t s = range.first; s < range.first + range.size; ++s)
      batch.push_back({s, sequences.length(s), documents[s], {}});
    check_donors(batch, donors);
  }
}

std::unique_ptr<TokenStream> open_tokens(EvalDataConfig& data, int64_t vocab_size) {
  auto tokens = std::make_unique<TokenStream>(data.shards, vocab_size);
  take_separator(tokens->manifest(), data);
  return tokens;
}

/// A claim about a cell that is not there would be noticed when it is judged, after everything is measured.
void check_claims(const std::vector<ClaimConfig>& claims, const std::vector<Cell>& cells) {
  const auto require = [&](const ClaimConfig& claim, const std::string& name) {
    for (const Cell& cell : cells) {
      if (cell.name != name) continue;
      if (cell.runs()) return;
      throw ConfigError("claim '{}': cell '{}' changes no site of this model, so nothing is measured",
                        claim.name, name);
    }
    throw ConfigError("claim '{}': there is no cell '{}'; --dry-run without claims lists them", claim.name,
                      name);
  };
  for (const ClaimConfig& claim : claims) {
    require(claim, claim.cell);
    if (claim.exceeds) require(claim, *claim.exceeds);
  }
}

}  // namespace

std::string EvalModel::describe() const {
  const ModelConfig& c = config;
  std::string text =
      fmt::format("{} layers, hidden {}, heads {}/{}, vocabulary {}, {}", c.num_layers, c.hidden_size,
                  c.num_heads, c.num_kv_heads, c.vocab_size, to_string(c.residual.variant));
  if (c.residual.variant != Variant::additive)
    text += fmt::format(", {} sublayers per block", std::min(c.sublayers_per_block(), c.num_sublayers()));
  if (wrapped())
    text += recency_bias.size() == 1 ? fmt::format(" (plain model wrapped, recency bias {})", recency_bias[0])
                                     : " (plain model wrapped, one recency bias per site)";
  return text;
}

int64_t EvalModel::step() const {
  const std::filesystem::path path(folder.path());
  return step_of_checkpoint(path.parent_path().filename().string()).value_or(-1);
}

EvalModel open_eval_model(const EvalConfig& config, const std::string& from) {
  EvalModel model{open_model(from), {}, {}};
  model.config = model.folder.config();
  const bool plain = model.folder.is_plain();
  if (config.model.wrap && !plain)
    throw InputError("{} is not a plain model (its variant is {}); remove model.wrap", model.folder.path(),
                     to_string(model.config.residual.variant));
  if (config.model.wrap) {
    model.config = wrapped_config(model.folder.config(), *config.model.wrap);
    model.recency_bias = config.model.wrap->recency_bias;
  } else if (plain && !(config.grids.empty() && config.cells.empty())) {
    throw InputError(
        "{} is a plain model and has no routing for cells to change; set model.wrap, or remove grids and "
        "cells",
        model.folder.path());
  }
  return model;
}

void take_separator(const StreamManifest& manifest, EvalDataConfig& data) {
  if (manifest.separator) {
    const std::vector<int64_t> named{*manifest.separator};
    if (!data.separator.empty() && data.separator != named)
      throw ConfigError(
          "data.separator is {}, but {} names {} as the token that ends a document; leave the key out, or move "
          "the manifest away",
          data.separator.size() == 1 ? fmt::to_string(data.separator[0])
                                     : fmt::format("[{}]", fmt::join(data.separator, ", ")),
          manifest.shards.front().manifest, named[0]);
    data.separator = named;
  }
}

void load_eval_model(Stream stream, const EvalModel& source, Qwen3& model) {
  if (source.wrapped()) {
    load_wrapped_parameters(stream, source.folder, model.layout(), source.recency_bias, model.parameters());
  } else {
    load_parameters(stream, source.folder, model.layout(), model.parameters());
  }
}

std::string config_hash(const EvalConfig& config) {
  EvalConfig same = config;
  same.output.clear();
  return hash_text(to_yaml(same));
}

Comparisons make_comparisons(const DepthPlan& plan, const std::vector<Cell>& cells,
                             const std::vector<KnownAnswer>& known_answers, const std::string& donors,
                             const std::string& calibration) {
  Comparisons all;
  std::map<std::string, int> index;  // by what is done
  const auto add = [&](Comparison comparison, const std::string& what) {
    const auto [at, added] = index.try_emplace(what, static_cast<int>(all.list.size()));
    if (added) {
      comparison.hash = what;
      all.list.push_back(std::move(comparison));
    } else {
      Comparison& first = all.list[at->second];
      first.per_token = first.per_token || comparison.per_token;
    }
    return at->second;
  };
  const auto text = [&](std::span<const SiteChange> changes, int first_site) {
    std::string what = fmt::format("from site {}\n{}", first_site, canonical_text(changes));
    ContentNeeds needs;
    needs.add(plan, changes);
    return what + (needs.donors() ? donors : "") + (needs.calibration() ? calibration : "");
  };
  for (const Cell& cell : cells)
    all.of_cell.push_back(cell.runs() ? add({cell.name, "", cell.first_site, cell.site_changes, cell.repeats,
                                             cell.donor_seed, cell.per_token},
                                            text(cell.site_changes, cell.first_site))
                                      : -1);
  for (const KnownAnswer& known_answer : known_answers)
    all.of_known_answer.push_back(
        add({known_answer.name, "", known_answer.first_site, known_answer.site_changes},
            text(known_answer.site_changes, known_answer.first_site)));
  for (Comparison& comparison : all.list)
    comparison.hash = hash_text(comparison.hash + (comparison.per_token ? "\nevery token" : ""));
  return all;
}

EvalInput::EvalInput(const EvalConfig& eval_config, const std::string& folder)
    : config(eval_config), model(open_eval_model(config, folder.empty() ? config.model.from : folder)) {
  open_data();
  plan = make_depth_plan(model.config);
  cells = resolve_cells(config.grids, config.cells, plan, config.resample);
  const SplitsConfig& splits = config.splits;
  const bool calibrates = any_needs_calibration(plan, cells);
  if (calibrates && requests)
    calibration = std::make_unique<Sequences>(*requests, config.data, splits, Split::calibration,
                                              splits.calibration_sequences);
  else if (calibrates)
    calibration = std::make_unique<Sequences>(*tokens, config.data, splits, Split::calibration,
                                              splits.calibration_sequences);
  known_answers = make_known_answers(plan, model.recency_bias, {.fp32 = true, .calibrated = calibrates});
  comparisons = make_comparisons(
      plan, cells, known_answers,
      fmt::format("donors {} seed {}\n", config.resample.donors, config.resample.seed),
      fmt::format("calibration {} of {}:{}:{} seed {}\n", splits.calibration_sequences, splits.calibration,
                  splits.exploration, splits.confirmation, config.data.seed));
  check_claims(config.claims, cells);
  check_positions(config.cells, *sequences);
  if (donors() > 0) check_batches(*sequences, batches(), donors());
}

void EvalInput::open_data() {
  const EvalDataConfig& data = config.data;
  if (data.requests.empty()) {
    tokens = open_tokens(config.data, model.config.vocab_size);
    sequences = std::make_unique<Sequences>(*tokens, data, config.splits, data.split, data.sequences);
    return;
  }
  requests = std::make_unique<RequestFile>(data.requests);
  requests->check_vocabulary(model.config.vocab_size);
  check_tokenizer(*requests, model.folder.path());
  sequences = std::make_unique<Sequences>(*requests, data, config.splits, data.split);
}

ContentNeeds EvalInput::needs() const {
  ContentNeeds needs;
  for (const Comparison& comparison : comparisons.list) needs.add(plan, comparison.changes);
  return needs;
}

int64_t EvalInput::donors() const {
  for (const Cell& cell : cells)
    if (cell.runs() && cell.uses_donors()) return config.resample.donors;
  return 0;
}

std::string EvalInput::measurement(const Provenance& from) const {
  std::string text = fmt::format("program: {} {}\nmodel: {}\n", program_version(), program_commit(),
                                 from.checkpoint_checksum);
  if (model.wrapped())
    text += fmt::format("model.wrap: {} sublayers per block, recency bias {}\n", plan.sublayers_per_block,
                        fmt::join(model.recency_bias, ", "));
  text += fmt::format("{}: {}\n", requests ? "data.requests" : "data.shards",
                      fmt::join(from.data_checksums, ", "));
  if (!requests)
    text += fmt::format("data.seq_len: {}\ndata.sequences: {}\ndata.choose: {}\n", config.data.seq_len,
                        config.data.sequences, to_string(config.data.choose));
  text += fmt::format("data.split: {}\n", to_string(config.data.split));
  text += fmt::format("chosen sequences: {}\nbatches: {}\n", sequences->fingerprint(), batches().count);
  text +=
      fmt::format("precision: {}\nunit files: version {}\n", to_string(config.precision), kUnitSchemaVersion);
  return text;
}

Provenance EvalInput::provenance(const CommandLine& command) const {
  Provenance from;
  from.command_line = command.text;
  from.config_yaml = to_yaml(config);
  from.config_hash = config_hash(config);
  from.checkpoint_path = model.folder.path();
  from.checkpoint_checksum = model_checksum(model.folder);
  from.checkpoint_step = model.step();
  if (requests) {
    from.data_paths = {requests->path()};
    from.data_checksums = {requests->checksum()};
  }
  for (size_t i = 0; tokens && i < tokens->shards().size(); ++i) {
    const ShardContents contents = tokens->read_contents(i);
    tokens->check_contents(i, contents);
    from.data_paths.push_back(tokens->shards()[i].path);
    from.data_checksums.push_back(contents.checksum);
  }
  if (requests) from.tokenizer_checksum = requests->tokenizer();
  if (tokens && tokens->manifest().tokenizer) {
    from.tokenizer = tokens->manifest().tokenizer->name;
    from.tokenizer_checksum = tokens->manifest().tokenizer->checksum;
  }
  from.wrapped = model.wrapped();
  from.measurement = measurement(from);
  from.measurement_hash = hash_text(from.measurement);
  std::string claims;
  for (const ClaimConfig& claim : config.claims)
    claims += fmt::format("{}: {} - {} {} {} {}\n", claim.name, claim.cell, claim.exceeds.value_or("0"),
                          claim.negative ? "< -" : ">", claim.margin, to_string(claim.measure));
  from.claims_hash = hash_text(claims);
  const StatisticsConfig& statistics = config.statistics;
  from.analysis_hash = hash_text(fmt::format("{} {} {} {}\n{}", statistics.bootstrap, statistics.alpha,
                                             statistics.margin, statistics.seed, claims));
  return from;
}

bool EvalInput::stores_weights() const {
  return config.routing.weights == RoutingWeights::all && plan.sites.front().routed;
}

UnitLayout EvalInput::layout() const {
  const std::string clean_key = fmt::format("clean{}{}", stores_weights() ? " weights" : "",
                                            config.routing.edge_estimates ? " edge_estimates" : "");
  return {plan, *sequences, batches(), comparisons.list, clean_key, donors()};
}

}  // namespace depthroute
