#include "data/manifest.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/posix.h"
#include "data/run_layout.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

constexpr int kManifestVersion = 1;

const nlohmann::json& member(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.is_object()) throw DataError("{}: {} stands where an object should", where, describe(object));
  const auto found = object.find(key);
  if (found == object.end())
    throw DataError("{}: the key \"{}\" is missing; the manifest is damaged", where, key);
  return *found;
}

int64_t count_of(const nlohmann::json& object, const char* key, const std::string& where) {
  const nlohmann::json& value = member(object, key, where);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT64_MAX})
    throw DataError("{}: \"{}\" is {}, not a count", where, key, describe(value));
  return value.get<int64_t>();
}

std::string text_of(const nlohmann::json& object, const char* key, const std::string& where) {
  const nlohmann::json& value = member(object, key, where);
  if (!value.is_string()) throw DataError("{}: \"{}\" is {}, not a string", where, key, describe(value));
  return value.get<std::string>();
}

std::vector<ManifestFile> parse_files(const nlohmann::json& root, const std::string& where) {
  const nlohmann::json& list = member(root, "files", where);
  if (!list.is_array()) throw DataError("{}: \"files\" is {}, not a list", where, describe(list));
  std::vector<ManifestFile> files;
  std::set<std::string> seen;
  for (const nlohmann::json& entry : list) {
    ManifestFile file{text_of(entry, "path", where), count_of(entry, "size", where),
                      text_of(entry, "checksum", where)};
    if (!stays_inside(file.path))
      throw DataError("{}: the path {} leaves the folder; do not use this manifest", where, quote(file.path));
    if (!seen.insert(file.path).second) throw DataError("{}: {} is listed twice", where, quote(file.path));
    files.push_back(std::move(file));
  }
  return files;
}

nlohmann::ordered_json list_of(std::span<const ManifestFile> files) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ManifestFile& file : files)
    list.push_back({{"path", file.path}, {"size", file.size}, {"checksum", file.checksum}});
  return list;
}

void sort_by_path(std::vector<ManifestFile>& files) {
  std::sort(files.begin(), files.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.path < b.path; });
}

Manifest parse_manifest(const std::string& text, const std::string& where) {
  const nlohmann::json root = parse_json_object(text, where);
  Manifest manifest;
  const int64_t version = count_of(root, "version", where);
  if (version != kManifestVersion)
    throw DataError("{}: version {} is unknown (this program reads {}); use the program that wrote it", where,
                    version, kManifestVersion);
  manifest.kind = text_of(root, "kind", where);
  manifest.step = count_of(root, "step", where);
  manifest.files = parse_files(root, where);
  sort_by_path(manifest.files);
  return manifest;
}

int64_t size_of_file(const std::string& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) throw_unreadable(path, "cannot be accessed", error.value());
  return static_cast<int64_t>(size);
}

void check_file(const std::string& folder, const ManifestFile& file) {
  const std::string path = folder + "/" + file.path;
  if (!exists(path) || is_folder(path))
    throw DataError("{}: missing, but {} lists it; the folder is incomplete: use another checkpoint", path,
                    kManifestName);
  if (const int64_t size = size_of_file(path); size != file.size)
    throw DataError("{}: {} bytes, but {} says {}; the file is damaged: use another checkpoint", path, size,
                    kManifestName, file.size);
  if (const std::string checksum = hash_file(path); checksum != file.checksum)
    throw DataError("{}: checksum {}, but {} says {}; the file is damaged: use another checkpoint", path,
                    checksum, kManifestName, quote(file.checksum));
}

/// A file below the folder that readers of models and checkpoints would take for one of theirs, but that is
/// not among `files`; "" if there is none.
std::string unlisted_tensors(const std::string& folder, std::span<const ManifestFile> files) {
  const auto matters = [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  };
  std::set<std::string> listed;
  for (const ManifestFile& file : files) listed.insert(file.path);
  try {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string path = entry.path().lexically_relative(folder).generic_string();
      if (matters(path) && listed.count(path) == 0) return path;
    }
  } catch (const fs::filesystem_error& error) {
    throw_unreadable(folder, "cannot be listed", error.code().value());
  }
  return "";
}

}  // namespace

ManifestFile describe_file(const std::string& folder, const std::string& path) {
  const std::string whole = folder + "/" + path;
  return {path, size_of_file(whole), hash_file(whole)};
}

std::string files_to_json(std::span<const ManifestFile> files) {
  return nlohmann::ordered_json{{"files", list_of(files)}}.dump();
}

std::vector<ManifestFile> files_from_json(const std::string& text, const std::string& where) {
  return parse_files(parse_json_object(text, where), where);
}

void write_manifest(const std::string& folder, const std::string& kind, int64_t step,
                    std::vector<ManifestFile> files) {
  sort_by_path(files);
  for (size_t i = 1; i < files.size(); ++i)
    DR_CHECK_MSG(files[i - 1].path != files[i].path, files[i].path.c_str());
  for (const ManifestFile& file : files) {
    // Catches folders that differ between machines, and programs that clean up too eagerly.
    const std::string path = folder + "/" + file.path;
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (error) throw SystemError("{}: written, but cannot be found again: {}", path, error.message());
    if (static_cast<int64_t>(size) != file.size)
      throw SystemError("{}: {} bytes were written, but {} are there", path, file.size, size);
  }
  if (const std::string stranger = unlisted_tensors(folder, files); !stranger.empty())
    throw SystemError("{}/{}: no rank of this job wrote it", folder, stranger);
  const nlohmann::ordered_json root = {
      {"kind", kind}, {"version", kManifestVersion}, {"step", step}, {"files", list_of(files)}};
  write_file_atomically(folder + "/" + kManifestName, root.dump(1) + "\n");
}

bool has_manifest(const std::string& folder) { return exists(folder + "/" + kManifestName); }

Manifest verify_manifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifestName;
  if (!has_manifest(folder))
    throw DataError("{}: no {}: the folder is incomplete or not a checkpoint; use another one", folder,
                    kManifestName);
  Manifest manifest = parse_manifest(read_file(path), path);
  for (const ManifestFile& file : manifest.files) check_file(folder, file);
  if (const std::string stranger = unlisted_tensors(folder, manifest.files); !stranger.empty())
    throw DataError("{}/{}: not listed in {}: remove it, or use another checkpoint", folder, quote(stranger),
                    kManifestName);
  return manifest;
}

}  // namespace depthroute
