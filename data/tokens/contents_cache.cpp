#include "data/tokens/contents_cache.h"

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"

namespace depthroute {
namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kQuietNs = 2'000'000'000;  // the resolution of the coarsest file system clock

std::string key_of(std::span<const ShardFile> files) {
  std::string key;
  for (const auto& [path, file] : files)
    key += fmt::format("{}{}:{}:{}:{}:{}", key.empty() ? "" : " ", file.device, file.inode, file.size,
                       file.modified_ns, file.changed_ns);
  return key;
}

}  // namespace

ContentsCache::ContentsCache(const std::string& path) : path_(path) {
  try {
    if (!exists(path)) return;
    const nlohmann::json root = parse_json_object(read_file(path), path);
    if (root.at("version") != kVersion) return;
    std::map<std::string, ShardContents> entries;
    for (const auto& [key, entry] : root.at("files").items())
      entries[key] = {entry.at("checksum").get<std::string>(), entry.at("largest_token").get<int64_t>()};
    entries_ = std::move(entries);
  } catch (const DataError&) {
  } catch (const nlohmann::json::exception&) {
  }
}

std::optional<ShardContents> ContentsCache::find(std::span<const ShardFile> files) const {
  const auto entry = entries_.find(key_of(files));
  if (entry == entries_.end()) return std::nullopt;
  used_.insert(*entry);
  return entry->second;
}

void ContentsCache::add(std::span<const ShardFile> files, const ShardContents& contents, int64_t now_ns) {
  for (const auto& [path, file] : files)
    if (now_ns - std::max(file.modified_ns, file.changed_ns) < kQuietNs) return;
  used_[key_of(files)] = contents;
  added_ = true;
}

void ContentsCache::save() const {
  if (!added_) return;
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const auto& [key, contents] : used_)
    files[key] = {{"checksum", contents.checksum}, {"largest_token", contents.largest_token}};
  write_file_atomically(path_,
                        nlohmann::ordered_json{{"version", kVersion}, {"files", files}}.dump(1) + "\n");
}

}  // namespace depthroute
