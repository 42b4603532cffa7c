#include "eval/results/results_file.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>
#include <filesystem>
#include <numeric>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/cli.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestEnding = 24;  // ".tmp-4194304" and ".lock", with room to spare

std::vector<int64_t> counting(int64_t n) {
  std::vector<int64_t> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), int64_t{0});
  return values;
}

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

ResultsFile::ResultsFile(const std::string& path, const DepthPlan& plan, int64_t sequences, int64_t seq_len,
                         bool weights)
    : place_(path),
      plan_(plan),
      sequences_(sequences),
      seq_len_(seq_len),
      weights_(weights),
      file_(place_.temporary()) {
  write_sites();
  file_.group("/sequence");
  file_.scale("/sequence/sequence", counting(sequences_), {"1", "place of the sequence in the evaluation"});
  file_.group("/clean");
  file_.link("/sequence/sequence", "/clean/sequence");
  file_.scale("/clean/token", counting(seq_len_),
              {"1", "position in the sequence of the token that is read"});
  file_.group("/routing");
  file_.link("/site/site", "/routing/site");
  file_.link("/site/source", "/routing/source");
  if (!weights) return;
  file_.link("/sequence/sequence", "/routing/sequence");
  file_.link("/clean/token", "/routing/token");
  file_.create_u16("/routing/weights",
                   {"/routing/site", "/routing/sequence", "/routing/token", "/routing/source"},
                   {1, 1, seq_len_, plan_.max_sources()}, {"1", kWeightsLongName});
  file_.attribute("/routing/weights", "scale_factor", 1.0 / 65535.0);
}

void ResultsFile::write_weights(const BatchRecord& record) {
  if (!weights_) return;
  file_.write_block(
      "/routing/weights", record.routing.weights, {0, record.batch.first, 0, 0},
      {static_cast<int64_t>(plan_.sites.size()), record.batch.size, seq_len_, plan_.max_sources()});
}

void ResultsFile::write(const Results& results) {
  write_root(results);
  if (results.trace && !results.trace->empty()) write_routing(*results.trace);
  write_clean(results);
  if (!results.cells.empty()) {
    write_cells(results);
    write_cell_effects(results);
    write_plan(results);
  }
  write_known_answers(results);
}

void ResultsFile::write_root(const Results& results) {
  const Provenance& from = results.provenance;
  file_.attribute("/", "Conventions", std::string("CF-1.10"));
  file_.attribute("/", "title", std::string("Causal routing ablations of depth routing"));
  file_.attribute("/", "source", fmt::format("depthroute-eval {}", program_version()));
  file_.attribute("/", "history", from.command_line);
  file_.attribute("/", "schema_version", kResultsSchemaVersion);
  file_.attribute("/", "created", utc_now());
  file_.attribute("/", "program_version", std::string(program_version()));
  file_.attribute("/", "git_commit", std::string(program_commit()));
  file_.attribute("/", "command_line", from.command_line);
  file_.attribute("/", "config", from.config_yaml);
  file_.attribute("/", "config_hash", from.config_hash);
  file_.attribute("/", "checkpoint", from.checkpoint_path);
  file_.attribute("/", "checkpoint_checksum", from.checkpoint_checksum);
  file_.attribute("/", "wrapped", static_cast<int64_t>(from.wrapped));
  file_.attribute("/", "data", from.data_paths);
  file_.attribute("/", "data_checksums", from.data_checksums);
  file_.attribute("/", "tokens_evaluated", sequences_ * seq_len_);
  file_.attribute("/", "seed", static_cast<int64_t>(from.seed));
  file_.attribute("/", "device", fmt::format("{}", fmt::join(from.devices, "; ")));
  file_.attribute("/", "precision", from.precision);
}

void ResultsFile::commit() {
  file_.close();
  place_.commit();
}

}  // namespace depthroute
