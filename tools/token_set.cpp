#include "tools/token_set.h"

#include <algorithm>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/posix.h"

namespace depthroute {
namespace {

constexpr size_t kMaxNameBytes = 200;  // 255 less "_0000000000.bin" and what unfinished files have behind it

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

void check_set_name(const std::string& name) {
  if (!is_utf8(name)) throw ConfigError("--name is not valid UTF-8; choose another");
  if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    throw ConfigError("--name {}: holds a control character", quote(name));
  if (is_shard_of(name + ".bin", kValidationName) || !stays_inside(name) ||
      name.find('/') != std::string::npos)
    throw ConfigError("--name {}: must be a plain file name other than val", name);
  if (name.find(".tmp-") != std::string::npos)
    throw ConfigError("--name {}: holds .tmp-, which marks unfinished files", name);
  if (name.size() > kMaxNameBytes)
    throw ConfigError("--name {}: is longer than {} bytes", quote(name), kMaxNameBytes);
}

EarlierSets::EarlierSets(const OutputFolder& folder, const std::string& name, bool validation)
    : folder_(folder), name_(name), validation_(validation) {
  for (const std::string& file : folder.names()) {
    if (!file.ends_with(kManifestEnd)) continue;
    const std::string path = folder.path() + "/" + file;
    const ShardManifest set = read_shard_manifest(path);
    if (set.name == name) {
      listed_.insert(file);
      for (const TokenFile& shard : set.files) listed_.insert(shard.path);
      continue;
    }
    if (is_shard_of(name + ".bin", set.name))
      throw ConfigError("--name {}: would read as a shard of the set that {} lists; choose another", name,
                        path);
    for (const TokenFile& shard : set.files) {
      if (validation && is_shard_of(shard.path, kValidationName))
        throw ConfigError(
            "{}/{}: belongs to the set that {} lists; pass --val-fraction 0 or choose another --output",
            folder.path(), shard.path, path);
      if (is_shard_of(shard.path, name))
        throw ConfigError(
            "{}/{}: belongs to the set that {} lists, but would read as one of this set; choose "
            "another --name or --output",
            folder.path(), shard.path, path);
    }
  }
}

void EarlierSets::refuse_any() const {
  for (const std::string& file : folder_.names())
    if (file == shard_manifest_name(name_) || is_shard_of(file, name_) ||
        (validation_ && is_shard_of(file, kValidationName)))
      throw ConfigError("{}/{}: exists already; remove it, choose another --output, or pass --overwrite",
                        folder_.path(), file);
}

void EarlierSets::refuse_unlisted(const std::vector<std::string>& new_names) const {
  for (const std::string& file : folder_.names())
    if (is_shard_of(file, name_) && listed_.count(file) == 0 &&
        std::find(new_names.begin(), new_names.end(), file) == new_names.end())
      throw ConfigError(
          "{}/{}: is in no manifest, but would read as a shard of the new set; move it away or choose another "
          "--output",
          folder_.path(), file);
}

}  // namespace depthroute
