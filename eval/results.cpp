#include "eval/results.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <limits>
#include <numeric>

#include "configs/base/error.h"
#include "configs/cli.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

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

fs::path parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

std::string temporary_beside(const std::string& path) {
  std::error_code error;
  fs::create_directories(parent_of(path), error);
  if (error) throw SystemError("{}: cannot create its folder: {}", path, error.message());
  return fmt::format("{}.tmp-{}", path, getpid());
}

void sync(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) close(fd);
  if (failed) throw SystemError("{}: cannot be written to disk: {}", path, std::strerror(failed));
}

}  // namespace

bool Results::controls_pass() const {
  for (size_t i = 0; i < controls.size(); ++i)
    if (!controls[i].passes(control_outcomes[i].largest_change)) return false;
  return provenance.parameters_before == provenance.parameters_after;
}

void check_output_path(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error))
    throw InputError("output {} is a folder; name a file, for example {}/results.h5", path, path);
  if (fs::exists(path, error)) {
    bool ours = false;
    if (is_hdf5_file(path)) {
      const Hdf5Reader file(path);
      ours = file.has_attribute("/", "schema_version") &&
             file.integer_attribute("/", "schema_version") == kResultsSchemaVersion;
    }
    if (!ours)
      throw InputError(
          "output {} exists and is not a results file of version {}; it is left alone: name another", path,
          kResultsSchemaVersion);
  }
  fs::path folder = parent_of(path);
  while (!fs::exists(folder, error)) folder = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error))
    throw InputError("output {}: {} is not a folder", path, folder.string());
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    throw InputError("output {}: the folder {} cannot be written", path, folder.string());
}

ResultsFile::ResultsFile(const std::string& path, const DepthPlan& plan, int64_t sequences, int64_t seq_len,
                         bool weights)
    : path_(path),
      temporary_(temporary_beside(path)),
      plan_(plan),
      sequences_(sequences),
      seq_len_(seq_len),
      file_(temporary_) {
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
                   {1, 1, seq_len_, plan_.max_sources()},
                   {"1", "weight of a source, times 65535 and rounded; 0 where a site has fewer sources"});
  file_.attribute("/routing/weights", "scale_factor", 1.0 / 65535.0);
}

ResultsFile::~ResultsFile() {
  if (!committed_) std::remove(temporary_.c_str());
}

void ResultsFile::write_weights(int site, int64_t first_sequence, std::span<const float> weights) {
  const int64_t n = plan_.sites[site].num_sources(), widest = plan_.max_sources();
  const int64_t rows = static_cast<int64_t>(weights.size()) / n;
  std::vector<uint16_t> scaled(static_cast<size_t>(rows * widest), 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < n; ++j) {
      const float weight = std::clamp(weights[row * n + j], 0.0f, 1.0f);
      scaled[row * widest + j] = static_cast<uint16_t>(std::lround(weight * 65535.0f));
    }
  }
  file_.write_block("/routing/weights", scaled, {site, first_sequence, 0, 0},
                    {1, rows / seq_len_, seq_len_, widest});
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
  write_controls(results);
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
  file_.attribute("/", "device", from.device);
  file_.attribute("/", "precision", from.precision);
}

void ResultsFile::commit() {
  file_.close();
  sync(temporary_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw SystemError("{}: cannot be put in place: {}", path_, std::strerror(errno));
  committed_ = true;
  sync(parent_of(path_).string());
}

}  // namespace depthroute
