#include <cmath>

#include "configs/base/error.h"
#include "eval/results/unit_file.h"
#include "eval/results/unit_seal.h"

namespace depthroute {
namespace {

const std::string& sealed(const std::string& path) {
  check_seal(path);
  return path;
}

/// Nothing where every value is missing: the comparison was measured without this column.
bool is_missing(const Column& column, const std::vector<double>& values) {
  if (column.merge != Merge::append && !column.has(Axis::donor)) return false;
  for (const double value : values)
    if (!std::isnan(value)) return false;
  return column.has(Axis::token) || column.has(Axis::donor);
}

}  // namespace

UnitReader::UnitReader(const std::string& path) : path_(path), file_(sealed(path)) {
  if (!file_.has_attribute("/", "kind") || file_.string_attribute("/", "kind") != kUnitKind)
    throw DataError("{}: is not a unit of an evaluation", path);
  const int64_t version = file_.integer_attribute("/", "schema_version");
  if (version != kUnitSchemaVersion)
    throw DataError("{}: is a unit of version {}, and this program reads {}", path, version,
                    kUnitSchemaVersion);
  header_.measurement_hash = file_.string_attribute("/", "measurement_hash");
  header_.batch = file_.integer_attribute("/", "batch");
  header_.sequences = {file_.integer_attribute("/", "first_sequence"),
                       file_.integer_attribute("/", "sequences")};
  header_.first_segment = file_.integer_attribute("/", "first_segment");
  header_.clean_key = file_.string_attribute("/", "clean");
  if (!file_.has("/cell/comparison")) return;
  header_.hashes = file_.strings("/cell/comparison");
  header_.names = file_.strings("/cell/name");
}

void UnitReader::add_to(Provenance& provenance) const {
  const auto text = [&](const char* name) { return file_.string_attribute("/", name); };
  const auto agree = [&](const char* what, std::string& all, const std::string& ours) {
    if (all.empty()) all = ours;
    if (all != ours)
      throw DataError("{}: its {} is {}, but {} in other units: remove the wrong ones and measure them again",
                      path_, what, ours, all);
  };
  agree("precision", provenance.precision, text("precision"));
  agree("parameters_checksum_before", provenance.parameters_before, text("parameters_checksum_before"));
  provenance.add_parameters_after(text("parameters_checksum_after"));
  for (const std::string& device : file_.strings_attribute("/", "devices")) provenance.add_device(device);
}

std::vector<double> UnitReader::values(const std::string& path, const Lengths& lengths, const Column& column,
                                       int64_t rows) const {
  std::vector<int64_t> shape;
  if (rows >= 0) shape.push_back(rows);
  for (const Axis axis : column.shape()) shape.push_back(lengths.of(axis));
  if (file_.shape(path) != shape) throw DataError("{}: {} has another shape", path_, path);
  return file_.doubles(path);
}

CleanValues UnitReader::clean(const Lengths& lengths, std::vector<uint16_t>* weights) const {
  CleanValues clean;
  for (size_t i = 0; i < std::size(kCleanColumns); ++i) {
    const std::string path = std::string("/clean/") + kCleanColumns[i].name;
    if (file_.has(path)) clean.values[i] = values(path, lengths, kCleanColumns[i], -1);
  }
  if (clean[CleanColumn::nll].empty()) throw DataError("{}: /clean/nll is missing", path_);
  if (weights && file_.has("/clean/weights")) {
    if (file_.shape("/clean/weights") !=
        std::vector<int64_t>{lengths.sites, lengths.sequences, lengths.tokens, lengths.sources})
      throw DataError("{}: /clean/weights has another shape", path_);
    *weights = file_.shorts("/clean/weights");
  }
  return clean;
}

std::vector<Outcome> UnitReader::outcomes(const Lengths& lengths) const {
  const int64_t rows = static_cast<int64_t>(header_.hashes.size());
  std::vector<Outcome> outcomes(header_.hashes.size());
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& column = kCellColumns[i];
    const std::string path = std::string("/cell/") + column.name;
    if (!file_.has(path)) continue;
    const std::vector<double> all = values(path, lengths, column, rows);
    const int64_t size = lengths.size(column);
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> mine(all.begin() + row * size, all.begin() + (row + 1) * size);
      if (!is_missing(column, mine)) outcomes[row].values[i] = std::move(mine);
    }
  }
  return outcomes;
}

}  // namespace depthroute
