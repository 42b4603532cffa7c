#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <numeric>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/cli.h"
#include "eval/results/part.h"
#include "eval/results/part_seal.h"

namespace depthroute {
namespace {

std::vector<int64_t> counting(int64_t first, int64_t count) {
  std::vector<int64_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// Joins the sums of all comparisons end to end.
std::vector<double> join(const std::vector<Outcome>& outcomes, const OutcomeSum& sum) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes)
    values.insert(values.end(), (outcome.*sum.values).begin(), (outcome.*sum.values).end());
  return values;
}

/// Returns the field as [site, source], NaN where a site has fewer sources.
std::vector<double> spread(const RoutingRecord& routing, const DepthPlan& plan, const MomentField& field) {
  const size_t widest = static_cast<size_t>(plan.max_sources());
  std::vector<double> values(plan.sites.size() * widest, std::numeric_limits<double>::quiet_NaN());
  size_t next = 0;
  for (size_t site = 0; site < plan.sites.size(); ++site)
    for (int j = 0; j < plan.sites[site].num_sources(); ++j)
      values[site * widest + j] = routing.moments.at(next++).*field.value;
  return values;
}

void write_seal(const std::string& path) {
  const std::string seal = seal_of(path);
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written =
      fd >= 0 && pwrite(fd, seal.data(), seal.size(), 0) == static_cast<ssize_t>(seal.size());
  const int reason = errno;
  if (fd >= 0) close(fd);
  if (!written) throw SystemError("{}: cannot be written: {}", path, std::strerror(reason));
}

}  // namespace

std::string batch_group(int64_t index) { return fmt::format("/batch_{:05}/", index); }

std::string parts_folder(const std::string& output) { return output + ".parts"; }

std::string part_path(const std::string& output, const PartNumber& number) {
  return fmt::format("{}/part_{:05}_of_{:05}.h5", parts_folder(output), number.index, number.count);
}

PartWriter::PartWriter(const std::string& path, PartLayout layout)
    : place_(path), layout_(std::move(layout)), file_(place_.temporary(), kSealBytes) {
  std::vector<std::string> sites;
  for (int site = 0; site < static_cast<int>(layout_.plan.sites.size()); ++site)
    sites.push_back(layout_.plan.site_name(site));
  file_.group("/axis");
  file_.scale("/axis/comparison", layout_.comparisons, {"", "cells that run, then known answers"});
  file_.scale("/axis/token", counting(0, layout_.seq_len),
              {"1", "position in the sequence of the token that is read"});
  file_.scale("/axis/site", sites, {"", "site: the place where a sublayer reads its input"});
  file_.scale("/axis/source", counting(0, layout_.plan.max_sources()),
              {"1", "position of a source at its site; the last is the current state"});
}

void PartWriter::write(const BatchRecord& record) {
  const std::string group = batch_group(record.batch.first / layout_.batches.micro_batch);
  file_.group(group);
  for (const char* axis : {"comparison", "token", "site", "source"})
    file_.link(std::string("/axis/") + axis, group + axis);
  file_.scale(group + "sequence", counting(record.batch.first, record.batch.size),
              {"1", "place of the sequence in the evaluation"});
  const auto put = [&](const char* name, const std::vector<double>& values,
                       const std::vector<std::string>& axes, const VariableInfo& info) {
    std::vector<std::string> scales;
    for (const std::string& axis : axes) scales.push_back(group + axis);
    file_.write<double>(group + name, values, scales, info);
  };
  file_.write<float>(group + kCleanNll, record.clean_nll, {group + "sequence", group + "token"},
                     {"nats/token", "negative log-likelihood of the next token, clean run"});
  for (const OutcomeSum& sum : kOutcomeSums)
    put(sum.name, join(record.outcomes, sum), {"comparison", "sequence"}, {sum.units, sum.long_name});
  std::vector<double> largest;
  for (const Outcome& outcome : record.outcomes) largest.push_back(outcome.largest_change);
  put(kLargestChange, largest, {"comparison"}, {"nats", "largest |delta nll| or divergence of any token"});

  const RoutingRecord& routing = record.routing;
  if (routing.tokens == 0) return;
  for (const MomentField& field : kMomentFields)
    put(field.name, spread(routing, layout_.plan, field), {"site", "source"}, {"1", field.long_name});
  put(kEntropy, routing.entropy, {"site"}, {"nats", "sum over tokens of the entropy of the weights"});
  if (!layout_.all_weights) return;
  const int64_t sites = static_cast<int64_t>(layout_.plan.sites.size()), widest = layout_.plan.max_sources();
  file_.create_u16(group + kWeights, {group + "site", group + "sequence", group + "token", group + "source"},
                   {1, 1, layout_.seq_len, widest}, {"1", kWeightsLongName});
  file_.attribute(group + kWeights, "scale_factor", 1.0 / 65535.0);
  file_.write_block(group + kWeights, routing.weights, {0, 0, 0, 0},
                    {sites, record.batch.size, layout_.seq_len, widest});
}

void PartWriter::commit(const PartNumber& number, const Provenance& from, bool known_answers_passed) {
  file_.attribute("/", "kind", std::string(kPartKind));
  file_.attribute("/", "schema_version", kPartSchemaVersion);
  file_.attribute("/", "part", number.index);
  file_.attribute("/", "parts", number.count);
  file_.attribute("/", "program_version", std::string(program_version()));
  file_.attribute("/", "git_commit", std::string(program_commit()));
  file_.attribute("/", "command_line", from.command_line);
  file_.attribute("/", "config", from.config_yaml);
  file_.attribute("/", "config_hash", from.config_hash);
  file_.attribute("/", "checkpoint", from.checkpoint_path);
  file_.attribute("/", "checkpoint_checksum", from.checkpoint_checksum);
  file_.attribute("/", "parameters_checksum_before", from.parameters_before);
  file_.attribute("/", "parameters_checksum_after", from.parameters_after);
  file_.attribute("/", "data", from.data_paths);
  file_.attribute("/", "data_checksums", from.data_checksums);
  file_.attribute("/", "devices", from.devices);
  file_.attribute("/", "precision", from.precision);
  file_.attribute("/", "known_answers_passed", static_cast<int64_t>(known_answers_passed));
  file_.close();
  write_seal(place_.temporary());
  place_.commit();
}

}  // namespace depthroute
