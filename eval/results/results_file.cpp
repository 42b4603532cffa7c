#include "eval/results/results_file.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>
#include <filesystem>
#include <sstream>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/cli.h"
#include "eval/measure/clean_routing.h"
#include "eval/results/unit_file.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestEnding = 24;  // ".tmp-4194304" and ".lock", with room to spare

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// Returns whether `path` is a results file of this version; never blocks, even on a FIFO.
bool is_results_file(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  const RegularFile readable(path);
  if (!is_hdf5_file(path)) return false;
  const Hdf5Reader file(path);
  return file.has_attribute("/", "schema_version") && !file.has_attribute("/", "kind") &&
         file.integer_attribute("/", "schema_version") == kResultsSchemaVersion;
}

}  // namespace

void check_output_path(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  std::error_code ignored;
  if (name.empty() || name == "." || name == ".." || fs::is_directory(path, ignored))
    throw InputError("output {} is a folder; name a file, for example {}", path,
                     (fs::path(path) / "results.h5").string());
  if (exists(path) && !is_results_file(path))
    throw InputError("output {} exists and is not a results file of version {}; name another", path,
                     kResultsSchemaVersion);
  check_output_place(path);
}

void check_output_place(const std::string& path) {
  const size_t longest = NAME_MAX - kLongestEnding;
  if (fs::path(path).filename().string().size() > longest)
    throw InputError("output {}: the name of the file is longer than {} bytes", path, longest);
  std::string folder = folder_of(path);
  while (!exists(folder)) folder = folder_of(folder);
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) throw InputError("output {}: {} is not a folder", path, folder);
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    throw InputError("output {}: the folder {} cannot be written: {}", path, folder, errno_text(errno));
}

std::optional<StoredMeasurement> stored_measurement(const std::string& path) {
  if (!exists(path)) return {};
  const Hdf5Reader file(path);
  return StoredMeasurement{file.string_attribute("/", "measurement_hash"),
                           file.string_attribute("/", "measurement")};
}

std::string first_difference(const std::string& there, const std::string& here) {
  const auto read = [](const std::string& text) {
    std::vector<std::pair<std::string, std::string>> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      const size_t end = std::min(line.find(": "), line.size());
      lines.emplace_back(line.substr(0, end), line.substr(std::min(end + 2, line.size())));
    }
    return lines;
  };
  const auto find = [](const auto& lines, const std::string& key) -> std::string {
    for (const auto& [name, value] : lines)
      if (name == key) return value;
    return "none";
  };
  const auto theirs = read(there), ours = read(here);
  for (const auto* lines : {&theirs, &ours})
    for (const auto& [key, value] : *lines)
      if (find(theirs, key) != find(ours, key))
        return fmt::format("{}: {} there, {} here", key, find(theirs, key), find(ours, key));
  return "of another version";
}

ResultsFile::ResultsFile(const std::string& path, const DepthPlan& plan, const Sequences& sequences,
                         bool weights)
    : place_(path), plan_(plan), sequences_(sequences), weights_(weights), file_(place_.temporary()) {
  file_.group("/site");
  std::vector<std::string> names;
  for (int site = 0; site < static_cast<int>(plan_.sites.size()); ++site)
    names.push_back(plan_.site_name(site));
  file_.scale("/site/site", names, {"", "site: the place where a sublayer reads its input"});
  file_.scale("/site/source", counting(plan_.max_sources()),
              {"1", "position of a source at its site; the last is the current state"});
  file_.group("/sequence");
  file_.scale("/sequence/sequence", counting(sequences_.size()),
              {"1", "number of the sequence in the evaluation"});
  file_.group("/clean");
  file_.link("/sequence/sequence", "/clean/sequence");
  file_.scale("/clean/token", counting(sequences_.seq_len()),
              {"1", "position in the sequence of the token that is read"});
  file_.group("/routing");
  file_.link("/site/site", "/routing/site");
  file_.link("/site/source", "/routing/source");
  if (!weights) return;
  file_.link("/sequence/sequence", "/routing/sequence");
  file_.link("/clean/token", "/routing/token");
  file_.create_u16(
      "/routing/weights", {"/routing/site", "/routing/sequence", "/routing/token", "/routing/source"},
      {1, 1, sequences_.seq_len(), plan_.max_sources()},
      {"1", "weight of a source, clean run; missing where a site has fewer sources or no token counts"});
  file_.attribute("/routing/weights", "scale_factor", kWeightScale);
  file_.fill_value("/routing/weights", kWeightFill);
}

void ResultsFile::write_weights(const SequenceRange& batch, const std::vector<uint16_t>& weights) {
  if (!weights_) return;
  file_.write_block(
      "/routing/weights", weights, {0, batch.first, 0, 0},
      {static_cast<int64_t>(plan_.sites.size()), batch.size, sequences_.seq_len(), plan_.max_sources()});
}

void ResultsFile::write(const Results& results, const EvalConfig& config) {
  level_ = 1 - config.statistics.alpha;
  write_root(results, config);
  write_sites(results.recency_bias);
  write_segments(config);
  if (results.trace && !results.trace->empty()) write_routing(results);
  write_clean(results);
  if (!results.cells.empty()) {
    write_cells(results);
    write_cell_effects(results);
    write_cell_segments(results);
    write_cell_routing(results);
    write_token_effects(results);
    write_grid(results);
    write_plan(results);
  }
  write_known_answers(results);
  if (results.task) write_task(results);
  write_claims(config);
}

void ResultsFile::write_root(const Results& results, const EvalConfig& config) {
  const Provenance& from = results.provenance;
  const auto text = [&](const char* name, const std::string& value) { file_.attribute("/", name, value); };
  const auto number = [&](const char* name, int64_t value) { file_.attribute("/", name, value); };
  text("Conventions", "CF-1.10");
  text("title", "Causal routing ablations of depth routing");
  text("source", fmt::format("depthroute-eval {}", program_version()));
  text("history", from.command_line);
  number("schema_version", kResultsSchemaVersion);
  text("created", utc_now());
  text("program_version", program_version());
  text("git_commit", program_commit());
  text("command_line", from.command_line);
  text("config", from.config_yaml);
  text("config_hash", from.config_hash);
  text("measurement", from.measurement);
  text("measurement_hash", from.measurement_hash);
  text("analysis_hash", from.analysis_hash);
  text("claims_hash", from.claims_hash);
  text("checkpoint", from.checkpoint_path);
  text("checkpoint_checksum", from.checkpoint_checksum);
  number("checkpoint_step", from.checkpoint_step);
  text("variant", results.variant);
  number("num_layers", plan_.num_layers);
  number("sublayers_per_block", plan_.sublayers_per_block);
  number("num_blocks",
         plan_.sublayers_per_block > 0 ? div_ceil(plan_.num_sublayers(), plan_.sublayers_per_block) : 0);
  number("wrapped", from.wrapped);
  file_.attribute("/", "data", from.data_paths);
  file_.attribute("/", "data_checksums", from.data_checksums);
  text("tokenizer", from.tokenizer);
  text("tokenizer_checksum", from.tokenizer_checksum);
  text("choose", sequences_.requests() ? "requests" : to_string(config.data.choose));
  text("split", to_string(config.data.split));
  file_.attribute("/", "separator", std::span<const int64_t>(config.data.separator));
  text("documents_from", to_string(sequences_.documents_from()));
  number("documents", sequences_.documents());
  number("sequences", sequences_.size());
  int64_t tokens = 0;
  for (int64_t i = 0; i < sequences_.size(); ++i) tokens += sequences_.tokens(i);
  number("tokens_evaluated", tokens);
  number("seq_len", sequences_.seq_len());
  number("seed", static_cast<int64_t>(config.data.seed));
  text("device", fmt::format("{}", fmt::join(from.devices, "; ")));
  text("precision", from.precision);
  file_.attribute("/", "unigram_entropy", results.unigram_entropy);
  file_.attribute("/", "confidence_level", level_);
  number("bootstrap", config.statistics.bootstrap);
  file_.attribute("/", "alpha", config.statistics.alpha);
  file_.attribute("/", "margin", config.statistics.margin);
  number("statistics_seed", static_cast<int64_t>(config.statistics.seed));
}

void ResultsFile::commit() {
  file_.close();
  place_.commit();
}

}  // namespace depthroute
