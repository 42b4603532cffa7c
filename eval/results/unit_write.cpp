#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <numeric>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/cli.h"
#include "data/atomic_path.h"
#include "eval/results/unit_file.h"
#include "eval/results/unit_seal.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void write_seal(const std::string& path) {
  const std::string seal = seal_of(path);
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written =
      fd >= 0 && pwrite(fd, seal.data(), seal.size(), 0) == static_cast<ssize_t>(seal.size());
  const int reason = errno;
  if (fd >= 0) close(fd);
  if (!written) throw SystemError("{}: cannot be written: {}", path, std::strerror(reason));
}

/// The scales of a column's axes in `group`, after `first`.
std::vector<std::string> scales(const std::string& group, const Column& column,
                                const std::string& first = "") {
  std::vector<std::string> paths;
  if (!first.empty()) paths.push_back(group + first);
  for (const Axis axis : column.shape()) paths.push_back(group + to_string(axis));
  return paths;
}

void write_axes(Hdf5Writer& file, const UnitHeader& header, const DepthPlan& plan, const Lengths& lengths) {
  std::vector<std::string> sites;
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site)
    sites.push_back(plan.site_name(site));
  file.group("/axis");
  file.scale("/axis/segment", counting(lengths.segments, header.first_segment),
             {"1", "number of the segment in the evaluation"});
  file.scale("/axis/sequence", counting(lengths.sequences, header.sequences.first),
             {"1", "number of the sequence in the evaluation"});
  file.scale("/axis/token", counting(lengths.tokens),
             {"1", "position in the sequence of the token that is read"});
  file.scale("/axis/site", sites, {"", "site: the place where a sublayer reads its input"});
  file.scale("/axis/source", counting(lengths.sources),
             {"1", "position of a source at its site; the last is the current state"});
  if (lengths.donors > 0) file.scale("/axis/donor", counting(lengths.donors), {"1", "number of the donor"});
}

void link_axes(Hdf5Writer& file, const std::string& group, const Lengths& lengths) {
  for (const Axis axis : {Axis::segment, Axis::sequence, Axis::token, Axis::site, Axis::source, Axis::donor})
    if (axis != Axis::donor || lengths.donors > 0)
      file.link(std::string("/axis/") + to_string(axis), group + to_string(axis));
}

void write_clean(Hdf5Writer& file, const UnitRecord& record, const Lengths& lengths) {
  file.group("/clean");
  link_axes(file, "/clean/", lengths);
  for (size_t i = 0; i < std::size(kCleanColumns); ++i) {
    const Column& column = kCleanColumns[i];
    if (record.clean.values[i].empty()) continue;
    file.write<double>(std::string("/clean/") + column.name, record.clean.values[i],
                       scales("/clean/", column), {column.units, column.long_name});
  }
  if (record.weights.empty()) return;
  file.create_u16("/clean/weights", {"/clean/site", "/clean/sequence", "/clean/token", "/clean/source"},
                  {1, 1, lengths.tokens, lengths.sources}, {"1", "every weight; eval/SPEC.md §7"});
  file.write_block("/clean/weights", record.weights, {0, 0, 0, 0},
                   {lengths.sites, lengths.sequences, lengths.tokens, lengths.sources});
}

void write_cells(Hdf5Writer& file, const UnitHeader& header, const UnitRecord& record,
                 const Lengths& lengths) {
  file.group("/cell");
  file.scale("/cell/comparison", header.hashes, {"", "hash of what the comparison does"});
  file.write<std::string>("/cell/name", header.names, {"/cell/comparison"},
                          {"", "its name when it was measured"});
  link_axes(file, "/cell/", lengths);
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& column = kCellColumns[i];
    const size_t size = static_cast<size_t>(lengths.size(column));
    std::vector<double> all;
    bool any = false;
    for (const Outcome& outcome : record.outcomes) {
      const std::vector<double>& values = outcome.values[i];
      DR_CHECK(values.empty() || values.size() == size);
      any = any || !values.empty();
      if (values.empty()) {
        all.insert(all.end(), size, kNan);
      } else {
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    if (!any || size == 0) continue;
    file.write<double>(std::string("/cell/") + column.name, all, scales("/cell/", column, "comparison"),
                       {column.units, column.long_name});
  }
}

}  // namespace

std::vector<int64_t> counting(int64_t n, int64_t first) {
  std::vector<int64_t> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), first);
  return values;
}

void write_unit(const std::string& path, const UnitHeader& header, const UnitRecord& record,
                const DepthPlan& plan, const Lengths& lengths, const Provenance& from) {
  remove_leftovers_of(path);
  AtomicPath place(path);
  Hdf5Writer file(place.temporary(), kSealBytes);
  write_axes(file, header, plan, lengths);
  if (record.has_clean) write_clean(file, record, lengths);
  if (!record.outcomes.empty()) write_cells(file, header, record, lengths);
  file.attribute("/", "kind", std::string(kUnitKind));
  file.attribute("/", "schema_version", kUnitSchemaVersion);
  file.attribute("/", "measurement_hash", header.measurement_hash);
  file.attribute("/", "measurement", from.measurement);
  file.attribute("/", "batch", header.batch);
  file.attribute("/", "first_sequence", header.sequences.first);
  file.attribute("/", "sequences", header.sequences.size);
  file.attribute("/", "first_segment", header.first_segment);
  file.attribute("/", "clean", header.clean_key);
  file.attribute("/", "command_line", from.command_line);
  file.attribute("/", "parameters_checksum_before", from.parameters_before);
  file.attribute("/", "parameters_checksum_after", from.parameters_after);
  file.attribute("/", "devices", from.devices);
  file.attribute("/", "precision", from.precision);
  file.close();
  write_seal(place.temporary());
  place.commit();
}

}  // namespace depthroute
