#include "configs/base/error.h"
#include "configs/cli.h"
#include "eval/results/part.h"
#include "eval/results/part_seal.h"

namespace depthroute {
namespace {

const std::string& checked(const std::string& path) {
  check_seal(path);
  return path;
}

}  // namespace

PartReader::PartReader(const std::string& path) : path_(path), file_(checked(path)) {
  if (!file_.has_attribute("/", "kind") || file_.string_attribute("/", "kind") != kPartKind)
    throw DataError("{}: is not a part of an evaluation", path);
  const int64_t version = file_.integer_attribute("/", "schema_version");
  if (version != kPartSchemaVersion)
    throw DataError("{}: is a part of version {}, and this program reads {}", path, version,
                    kPartSchemaVersion);
}

std::string PartReader::difference(const Provenance& here) const {
  const auto text = [&](const char* name) { return file_.string_attribute("/", name); };
  if (text("config_hash") != here.config_hash)
    return fmt::format("with another configuration (config_hash {}, here {})", text("config_hash"),
                       here.config_hash);
  if (text("checkpoint_checksum") != here.checkpoint_checksum)
    return fmt::format("from another checkpoint ({} with checksum {}, here {})", text("checkpoint"),
                       text("checkpoint_checksum"), here.checkpoint_checksum);
  if (file_.strings_attribute("/", "data_checksums") != here.data_checksums)
    return "from other data (data_checksums differ)";
  if (text("program_version") != program_version() || text("git_commit") != program_commit())
    return fmt::format("by another program ({} {}, this is {} {})", text("program_version"),
                       text("git_commit"), program_version(), program_commit());
  return "";
}

void PartReader::add_to(Provenance& provenance) const {
  const auto text = [&](const char* name) { return file_.string_attribute("/", name); };
  const auto agree = [&](const char* what, std::string& all, const std::string& ours) {
    if (all.empty()) all = ours;
    if (all != ours)
      throw DataError(
          "{}: its {} is {}, but {} in the parts before it: remove the wrong part and measure it again",
          path_, what, ours, all);
  };
  agree("precision", provenance.precision, text("precision"));
  agree("parameters_checksum_before", provenance.parameters_before, text("parameters_checksum_before"));
  provenance.add_parameters_after(text("parameters_checksum_after"));
  for (const std::string& device : file_.strings_attribute("/", "devices")) provenance.add_device(device);
}

bool PartReader::known_answers_passed() const {
  return file_.integer_attribute("/", "known_answers_passed") == 1;
}

void PartReader::read(const PartLayout& layout, const RecordSink& sink) const {
  if (file_.shape("/axis/comparison").size() != 1 || file_.strings("/axis/comparison") != layout.comparisons)
    throw DataError("{}: was measured with other cells", path_);
  for (int64_t index = 0; index < layout.batches.count; ++index) sink(read_batch(layout, index));
}

BatchRecord PartReader::read_batch(const PartLayout& layout, int64_t index) const {
  const std::string group = batch_group(layout.batches.first + index);
  const DepthPlan& plan = layout.plan;
  const int64_t comparisons = static_cast<int64_t>(layout.comparisons.size());
  const int64_t sites = static_cast<int64_t>(plan.sites.size()), widest = plan.max_sources();
  BatchRecord record;
  record.batch = layout.batches.at(index);
  const int64_t size = record.batch.size;
  /// Returns the variable's path; throws unless it has this shape.
  const auto checked = [&](const char* name, const std::vector<int64_t>& shape) {
    if (!file_.has(group + name) || file_.shape(group + name) != shape)
      throw DataError("{}: {}{} is missing or has another shape", path_, group, name);
    return group + name;
  };

  const std::vector<double> nll = file_.doubles(checked(kCleanNll, {size, layout.seq_len}));
  record.clean_nll.assign(nll.begin(), nll.end());
  record.outcomes.resize(layout.comparisons.size());
  for (const OutcomeSum& sum : kOutcomeSums) {
    const std::vector<double> sums = file_.doubles(checked(sum.name, {comparisons, size}));
    for (int64_t i = 0; i < comparisons; ++i)
      (record.outcomes[i].*sum.values).assign(sums.begin() + i * size, sums.begin() + (i + 1) * size);
  }
  const std::vector<double> largest = file_.doubles(checked(kLargestChange, {comparisons}));
  for (int64_t i = 0; i < comparisons; ++i) record.outcomes[i].largest_change = largest[i];

  if (!plan.sites.front().routed) return record;
  RoutingRecord& routing = record.routing;
  routing.tokens = size * layout.seq_len;
  for (const Site& site : plan.sites)
    routing.moments.resize(routing.moments.size() + static_cast<size_t>(site.num_sources()));
  for (WeightMoments& moments : routing.moments) moments.count = routing.tokens;
  for (const MomentField& field : kMomentFields) {
    const std::vector<double> values = file_.doubles(checked(field.name, {sites, widest}));
    size_t next = 0;
    for (int64_t site = 0; site < sites; ++site)
      for (int j = 0; j < plan.sites[site].num_sources(); ++j)
        routing.moments[next++].*field.value = values[site * widest + j];
  }
  routing.entropy = file_.doubles(checked(kEntropy, {sites}));
  if (layout.all_weights)
    routing.weights = file_.shorts(checked(kWeights, {sites, size, layout.seq_len, widest}));
  return record;
}

}  // namespace depthroute
