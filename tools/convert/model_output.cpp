#include "tools/convert/model_output.h"

#include <charconv>
#include <map>
#include <span>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/model/model_folder.h"
#include "tools/convert/modeling_file.h"

namespace depthroute {
namespace {

/// A file that a model folder has, written by us or by transformers.
bool belongs(const std::string& name) {
  return name == "config.json" || name == kModelIndexName || name.ends_with(".safetensors") ||
         name == kModelingName || is_companion(name);
}

/// Cuts the tensors into runs whose values take at most `most` bytes, at least one tensor each.
std::vector<std::span<const TensorToWrite>> cut(std::span<const TensorToWrite> tensors, int64_t most) {
  std::vector<std::span<const TensorToWrite>> parts;
  size_t first = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t size = written_bytes(tensors[i]);
    if (i > first && most > 0 && size > most - bytes) {
      parts.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += size;
  }
  parts.push_back(tensors.subspan(first));
  return parts;
}

std::vector<std::string> write_tensors(const std::string& folder, std::span<const TensorToWrite> tensors,
                                       int64_t most) {
  const auto parts = cut(tensors, most);
  const int count = static_cast<int>(parts.size());
  std::vector<std::string> names;
  std::map<std::string, std::string> file_by_tensor;
  int64_t bytes = 0;
  for (int part = 0; part < count; ++part) {
    names.push_back(model_part_name(part, count));
    write_safetensors(folder + "/" + names.back(), parts[part], model_metadata());
    for (const TensorToWrite& tensor : parts[part]) {
      file_by_tensor[tensor.name] = names.back();
      bytes += written_bytes(tensor);
    }
  }
  if (count == 1) return names;
  write_file_atomically(folder + "/" + kModelIndexName, model_index_json(file_by_tensor, bytes));
  names.push_back(kModelIndexName);
  return names;
}

}  // namespace

ModelOutput::ModelOutput(const OutputOptions& options, const std::string& source)
    : options_(options), folder_(options.path) {
  if (folder_.path() == source)
    throw ConfigError("{}: is the folder that is read; choose another --output", options.path);
  for (const std::string& name : folder_.names()) {
    if (!options.overwrite)
      throw ConfigError("{}: already holds {}; choose another --output, or replace it with --overwrite",
                        options.path, name);
    if (!belongs(name))
      throw ConfigError("{}: holds {}, which is no part of a model folder; choose another --output",
                        options.path, name);
  }
}

std::vector<std::string> ModelOutput::write(const ModelToWrite& model) {
  AtomicFolder unfinished(folder_.path());
  const std::string& path = unfinished.path();
  std::vector<std::string> names = write_tensors(path, model.tensors, options_.max_shard_bytes);
  for (const ManifestFile& file : write_companions(path, "", model.companions)) names.push_back(file.path);
  write_file_atomically(path + "/config.json", model.config_json);
  names.push_back("config.json");
  const std::vector<std::string> before = folder_.names();
  folder_.pass_on_mode(path);
  folder_.check_unchanged({before.begin(), before.end()});
  unfinished.commit();
  return names;
}

int64_t parse_size(const std::string& option, const std::string& text) {
  static const std::map<std::string, int64_t> kUnits = {
      {"", 1},          {"B", 1},         {"KB", 1000},      {"MB", 1000'000}, {"GB", 1000'000'000},
      {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1LL << 30}};
  int64_t number = 0, bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = kUnits.find(std::string(end, text.data() + text.size()));
  if (error != std::errc() || unit == kUnits.end() || number < 1 ||
      __builtin_mul_overflow(number, unit->second, &bytes))
    throw ConfigError("{}: {} is not a size; write it as 5GB, 500MB or 2GiB", option, text);
  return bytes;
}

}  // namespace depthroute
