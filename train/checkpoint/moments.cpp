// Reads moments, however many ranks wrote them. First the headers of all files: together they must hold every
// element of every parameter once. Then the contents that this rank owns.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "configs/base/error.h"
#include "data/model/safetensors.h"
#include "data/run_layout.h"
#include "kernels/ops/ops.h"
#include "train/checkpoint/tensors.h"

namespace depthroute {

namespace fs = std::filesystem;

namespace {

/// A tensor of a file: elements of one moment of one parameter.
struct StoredPart {
  const SafetensorsFile* file;
  const TensorEntry* entry;
  Range elements;  // of the parameter
};

std::string quote(const std::string& name) { return nlohmann::json(name).dump(); }

std::vector<SafetensorsFile> open_moments(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (is_moments_name(entry.path().filename().string())) paths.push_back(entry.path().string());
  }
  if (error) throw DataError("{}: cannot be listed: {}", folder, error.message());
  if (paths.empty()) throw DataError("{}: no optimizer*.safetensors in it: take another checkpoint", folder);
  std::sort(paths.begin(), paths.end());
  std::vector<SafetensorsFile> files;
  for (const std::string& path : paths) files.emplace_back(path);
  return files;
}

/// "name[begin:end]" -> name and its range; the name alone, with `whole`.
bool parse_range(std::string& name, Range& range) {
  const size_t open = name.find('[');
  if (open == std::string::npos || !name.ends_with(']')) return false;
  const char* const last = name.data() + name.size() - 1;
  const auto [colon, error] = std::from_chars(name.data() + open + 1, last, range.begin);
  if (error != std::errc() || colon == last || *colon != ':') return false;
  const auto [end, end_error] = std::from_chars(colon + 1, last, range.end);
  if (end_error != std::errc() || end != last) return false;
  name.resize(open);
  return true;
}

/// Which elements of which moment a tensor holds: "m.<name>" or "v.<name>" -> `key`.
StoredPart identify(const SafetensorsFile& file, const TensorEntry& entry, const ParameterLayout& layout,
                    std::string& key) {
  key = entry.name;
  Range range;
  const bool is_part = parse_range(key, range);
  if (!(key.starts_with("m.") || key.starts_with("v.")) || !layout.contains(key.substr(2)))
    throw DataError("{}: tensor {} is no moment of this model: use the checkpoint's model keys", file.path(),
                    quote(entry.name));
  const Parameter& parameter = layout.find(key.substr(2));
  if (!is_part) range = {0, parameter.numel()};
  if (range.begin < 0 || range.begin >= range.end || range.end > parameter.numel())
    throw DataError("{}: tensor {} lies outside this model's {} elements: use the checkpoint's model keys",
                    file.path(), quote(entry.name), parameter.numel());
  const std::vector<int64_t> shape = is_part ? std::vector<int64_t>{range.size()} : parameter.shape.extents();
  if (entry.shape != shape)
    throw DataError("{}: tensor {} has another shape than this model: use the checkpoint's model keys",
                    file.path(), quote(entry.name));
  if (entry.dtype != "F32")
    throw DataError("{}: tensor {} is {}, but moments are F32: take another checkpoint", file.path(),
                    quote(entry.name), entry.dtype);
  return {&file, &entry, range};
}

using StoredMoments = std::map<std::string, std::vector<StoredPart>>;  // by "m.<name>", by element

StoredMoments index_of(const std::string& folder, const std::vector<SafetensorsFile>& files,
                       const ParameterLayout& layout) {
  StoredMoments stored;
  std::string key;
  for (const SafetensorsFile& file : files)
    for (const TensorEntry& entry : file.entries()) {
      const StoredPart part = identify(file, entry, layout, key);
      stored[key].push_back(part);
    }
  for (const char* prefix : {"m.", "v."})
    for (const Parameter& parameter : layout.all()) {
      const std::string name = prefix + parameter.name;
      std::vector<StoredPart>& parts = stored[name];
      std::stable_sort(parts.begin(), parts.end(), [](const StoredPart& a, const StoredPart& b) {
        return a.elements.begin < b.elements.begin;
      });
      int64_t covered = 0;
      const auto require_up_to = [&](int64_t next) {
        if (next > covered)
          throw DataError("{}: of tensor {} the elements {} to {} are missing: take another checkpoint",
                          folder, name, covered, next);
      };
      for (const StoredPart& part : parts) {
        require_up_to(part.elements.begin);
        if (part.elements.begin < covered)
          throw DataError(
              "{}: tensor {} holds elements that another tensor holds too: take another checkpoint",
              part.file->path(), quote(part.entry->name));
        covered = part.elements.end;
      }
      require_up_to(parameter.numel());
    }
  return stored;
}

/// Elements [begin, begin + to.numel()) of a parameter.
void read_range(Stream stream, const std::vector<StoredPart>& parts, int64_t begin, const Tensor& to,
                std::vector<float>& staging) {
  constexpr int64_t kChunk = int64_t{4} << 20;  // elements
  const int64_t end = begin + to.numel();
  for (const StoredPart& part : parts) {
    const int64_t stop = std::min(end, part.elements.end);
    for (int64_t at = std::max(begin, part.elements.begin); at < stop; at += kChunk) {
      const int64_t count = std::min(kChunk, stop - at);
      const auto bytes = part.file->bytes(*part.entry)
                             .subspan(static_cast<size_t>(at - part.elements.begin) * sizeof(float),
                                      static_cast<size_t>(count) * sizeof(float));
      staging.resize(static_cast<size_t>(count));
      std::memcpy(staging.data(), bytes.data(), bytes.size());
      if (!std::all_of(staging.begin(), staging.end(), [](float value) { return std::isfinite(value); }))
        throw DataError("{}: tensor {} holds values that are no numbers or infinite: take another checkpoint",
                        part.file->path(), quote(part.entry->name));
      ops::copy(stream, host_tensor(staging.data(), {count}), to.slice(at - begin, at - begin + count));
      synchronize(stream);  // staging is reused
    }
  }
}

}  // namespace

void load_moments(const std::string& folder, const CheckpointTensors& to) {
  const std::vector<SafetensorsFile> files = open_moments(folder);
  const StoredMoments stored = index_of(folder, files, to.layout);
  ops::zero(to.stream, to.m);
  ops::zero(to.stream, to.v);
  std::vector<float> staging;
  for (const OwnedPart& part : owned_parts(to.layout, to.partition))
    for (const auto& [prefix, moment] : {std::pair{"m.", &to.m}, std::pair{"v.", &to.v}})
      read_range(to.stream, stored.at(prefix + part.parameter->name), part.elements.begin,
                 moment->slice(part.at, part.at + part.elements.size()), staging);
}

}  // namespace depthroute
