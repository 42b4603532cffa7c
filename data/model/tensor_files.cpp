#include "data/model/tensor_files.h"

#include <algorithm>
#include <map>
#include <set>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/model_folder.h"
#include "data/posix.h"

namespace depthroute {
namespace {

/// The sharded form: the index says which file holds which tensor, and every file must agree with it.
std::vector<SafetensorsFile> open_parts(const std::string& folder, std::vector<ManifestFile>& notes) {
  const std::string index_path = folder + "/" + kModelIndexName;
  const nlohmann::json root = parse_json_object(read_noted(folder, kModelIndexName, notes), index_path);
  const auto map = root.find("weight_map");
  if (map == root.end() || !map->is_object())
    throw DataError("{}: the key \"weight_map\" is missing or no object; download the index again",
                    index_path);
  std::map<std::string, std::set<std::string>> names_by_file;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !stays_inside(file.get_ref<const std::string&>()))
      throw DataError("{}: tensor {} is in {}, which is not a file of this folder", index_path, quote(name),
                      describe(file));
    names_by_file[file.get<std::string>()].insert(name);
  }
  std::vector<SafetensorsFile> files;
  for (const auto& [file, names] : names_by_file) {
    files.emplace_back(folder + "/" + file);
    for (const std::string& name : names)
      if (files.back().find(name) == nullptr)
        throw DataError("{}: tensor {} is missing, although {} says it is here; download both again",
                        files.back().path(), quote(name), index_path);
    for (const TensorEntry& entry : files.back().entries())
      if (names.count(entry.name) == 0)
        throw DataError("{}: tensor {} is not what {} says of this file; download both again",
                        files.back().path(), quote(entry.name), index_path);
  }
  return files;
}

std::vector<SafetensorsFile> open_tensors(const std::string& folder, std::vector<ManifestFile>& notes) {
  const std::string single = folder + "/" + model_part_name(0, 1);
  std::vector<SafetensorsFile> files;
  if (exists(single))
    files.emplace_back(single);
  else if (exists(folder + "/" + kModelIndexName))
    files = open_parts(folder, notes);
  else
    throw DataError("{}: neither {} nor {} is in it; not a whole model folder", folder, model_part_name(0, 1),
                    kModelIndexName);
  return files;
}

}  // namespace

std::string read_noted(const std::string& folder, const std::string& name, std::vector<ManifestFile>& notes) {
  std::string text = read_file(folder + "/" + name);
  notes.push_back(
      {name, static_cast<int64_t>(text.size()), hash_bytes(std::as_bytes(std::span<const char>(text)))});
  return text;
}

std::vector<int64_t> without_leading_ones(std::vector<int64_t> shape) {
  const auto first = std::find_if(shape.begin(), shape.end(), [](int64_t size) { return size != 1; });
  shape.erase(shape.begin(), first);
  return shape;
}

TensorFiles::TensorFiles(const std::string& folder, std::vector<ManifestFile>& texts)
    : files_(open_tensors(folder, texts)) {}

std::optional<StoredTensor> TensorFiles::find(const std::string& name) const {
  for (const SafetensorsFile& file : files_)
    if (const TensorEntry* entry = file.find(name)) return StoredTensor{&file, entry};
  return std::nullopt;
}

std::vector<std::string> TensorFiles::names() const {
  std::vector<std::string> all;
  for (const SafetensorsFile& file : files_)
    for (const TensorEntry& entry : file.entries()) all.push_back(entry.name);
  return all;
}

bool TensorFiles::same(const std::string& name, const std::string& other) const {
  const auto one = find(name), two = find(other);
  if (!one || !two || one->entry->dtype != two->entry->dtype || one->entry->shape != two->entry->shape)
    return false;
  const auto bytes = one->file->bytes(*one->entry), other_bytes = two->file->bytes(*two->entry);
  return std::equal(bytes.begin(), bytes.end(), other_bytes.begin(), other_bytes.end());
}

}  // namespace depthroute
