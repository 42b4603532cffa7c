#include "eval/results/unit_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/standard_streams.h"
#include "data/atomic_path.h"
#include "data/files.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShortHash = 16;
constexpr const char *kPrefix = "batch_", *kEnding = ".h5";

std::string hash_text(const std::string& text) {
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

/// Units in the folder, sorted by name. Nothing if there is no folder.
std::vector<std::string> unit_paths(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  if (!fs::exists(folder, error)) return paths;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kEnding)) paths.push_back(entry->path().string());
  }
  if (error) throw AccessError("{}: cannot be listed: {}", folder, error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

std::string units_folder(const std::string& output) { return output + ".units"; }

std::string part_place(const std::string& output, const PartNumber& number) {
  return fmt::format("{}/part_{:05}_of_{:05}", units_folder(output), number.index, number.count);
}

Lengths UnitLayout::lengths(int64_t batch) const {
  return lengths_of(plan, sequences, batches.at(batch - batches.first), donors);
}

UnitStore::UnitStore(const std::string& output, const std::string& measurement_hash, UnitLayout layout)
    : folder_(units_folder(output) + "/" + measurement_hash.substr(0, kShortHash)),
      measurement_hash_(measurement_hash),
      layout_(std::move(layout)) {}

void UnitStore::make_folder() const { make_folder_of(folder_ + "/unit"); }

void UnitStore::scan(Damaged damaged) {
  found_.clear();
  for (const std::string& path : unit_paths(folder_)) {
    const RegularFile readable(path);
    try {
      add(UnitReader(path));
    } catch (const AccessError&) {
      throw;
    } catch (const DataError& error) {
      if (damaged == Damaged::refuse)
        throw DataError("{}; remove it, and measure what is missing then", error.what());
      print_text(stderr, fmt::format("{}; measured again\n", error.what()));
    }
  }
}

void UnitStore::add(const UnitReader& unit) {
  const UnitHeader& header = unit.header();
  if (header.measurement_hash != measurement_hash_)
    throw DataError("{}: was measured by another evaluation", unit.path());
  const int64_t place = header.batch - layout_.batches.first;
  if (place < 0 || place >= layout_.batches.count || !(header.sequences == layout_.batches.at(place)))
    throw DataError("{}: is of a batch this evaluation does not have", unit.path());
  Batch& batch = found_[header.batch];
  if (header.clean_key == layout_.clean_key) batch.clean = unit.path();
  for (size_t row = 0; row < header.hashes.size(); ++row)
    batch.comparisons[header.hashes[row]] = {unit.path(), row};
}

const UnitStore::Batch* UnitStore::find(int64_t batch) const {
  const auto found = found_.find(batch);
  return found == found_.end() ? nullptr : &found->second;
}

std::vector<Missing> UnitStore::missing(const BatchRange& batches) const {
  std::vector<Missing> all;
  for (int64_t i = 0; i < batches.count; ++i) {
    Missing missing;
    missing.batch = batches.number(i);
    const Batch* const there = find(missing.batch);
    missing.clean = !there || there->clean.empty();
    for (size_t k = 0; k < layout_.comparisons.size(); ++k)
      if (!there || !there->comparisons.contains(layout_.comparisons[k].hash))
        missing.comparisons.push_back(static_cast<int>(k));
    if (missing.clean || !missing.comparisons.empty()) all.push_back(std::move(missing));
  }
  return all;
}

std::string UnitStore::name_of(const UnitHeader& header) const {
  std::string contents = header.clean_key;
  for (const std::string& hash : header.hashes) contents += "\n" + hash;
  return fmt::format("{}/{}{:05}_{}{}", folder_, kPrefix, header.batch,
                     hash_text(contents).substr(0, kShortHash), kEnding);
}

void UnitStore::write(const UnitRecord& record, const Provenance& from) const {
  UnitHeader header;
  header.measurement_hash = measurement_hash_;
  header.batch = record.batch;
  header.sequences = layout_.batches.at(record.batch - layout_.batches.first);
  const std::vector<Segment>& segments = layout_.sequences.segments();
  header.first_segment =
      layout_.sequences.segments_of(header.sequences.first, header.sequences.size).data() - segments.data();
  if (record.has_clean) header.clean_key = layout_.clean_key;
  for (const int index : record.comparisons) {
    header.hashes.push_back(layout_.comparisons[index].hash);
    header.names.push_back(layout_.comparisons[index].name);
  }
  write_unit(name_of(header), header, record, layout_.plan, layout_.lengths(record.batch), from);
}

void UnitStore::add_to(Provenance& provenance, const BatchRange& batches) const {
  std::set<std::string> paths;
  for (int64_t i = 0; i < batches.count; ++i) {
    const Batch* const there = find(batches.number(i));
    if (!there) continue;
    if (!there->clean.empty()) paths.insert(there->clean);
    for (const Comparison& comparison : layout_.comparisons)
      if (const auto found = there->comparisons.find(comparison.hash); found != there->comparisons.end())
        paths.insert(found->second.path);
  }
  for (const std::string& path : paths) UnitReader(path).add_to(provenance);
}

UnitRecord UnitStore::read(int64_t batch) const {
  const Batch* const there = find(batch);
  DR_CHECK(there);
  const Lengths lengths = layout_.lengths(batch);
  UnitRecord record;
  record.batch = batch;
  record.has_clean = true;
  record.outcomes.resize(layout_.comparisons.size());
  record.clean = UnitReader(there->clean).clean(lengths, &record.weights);
  std::map<std::string, std::vector<size_t>> wanted;  // by path: comparisons
  for (size_t k = 0; k < layout_.comparisons.size(); ++k)
    wanted[there->comparisons.at(layout_.comparisons[k].hash).path].push_back(k);
  for (const auto& [path, indices] : wanted) {
    std::vector<Outcome> outcomes = UnitReader(path).outcomes(lengths);
    for (const size_t k : indices) {
      const size_t row = there->comparisons.at(layout_.comparisons[k].hash).row;
      if (row >= outcomes.size()) throw DataError("{}: has fewer cells than it says", path);
      record.outcomes[k] = std::move(outcomes[row]);
      record.comparisons.push_back(static_cast<int>(k));
    }
  }
  return record;
}

void UnitStore::remove_leftovers() const {
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error))
    if (const std::string name = entry->path().filename().string();
        name.starts_with(kPrefix) && name.find(".h5.tmp-") != std::string::npos)
      fs::remove(entry->path(), error);
}

}  // namespace depthroute
