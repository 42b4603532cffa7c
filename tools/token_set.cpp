#include "tools/token_set.h"

#include <algorithm>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/posix.h"

namespace depthroute {
namespace {

constexpr const char* kKind = "depthroute token shards";
constexpr int kVersion = 1;
constexpr const char* kRecordEnd = ".shards.json";
constexpr size_t kMaxNameBytes = 200;  // 255 less "_0000000000.bin" and what unfinished files have behind it

/// NAME.bin and NAME_<digits>.bin.
bool is_shard_of(const std::string& file, const std::string& name) {
  if (!file.starts_with(name) || !file.ends_with(".bin") || file.size() < name.size() + 4) return false;
  const std::string number = file.substr(name.size(), file.size() - name.size() - 4);
  return number.empty() || (number.size() > 1 && number[0] == '_' &&
                            number.find_first_not_of("0123456789", 1) == std::string::npos);
}

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

template <typename Value>
Value value_of(const nlohmann::json& object, const char* key, const std::string& where) {
  try {
    return object.at(key).get<Value>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError("{}: damaged: \"{}\": {}; move it and its shards away", where, key,
                    json_error_text(error));
  }
}

}  // namespace

std::string record_name(const std::string& name) { return name + kRecordEnd; }

void check_set_name(const std::string& name) {
  if (!is_utf8(name)) throw ConfigError("--name is not valid UTF-8; choose another");
  if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    throw ConfigError("--name {}: holds a control character", quote(name));
  if (name == "val" || !stays_inside(name) || name.find('/') != std::string::npos)
    throw ConfigError("--name {}: must be a plain file name other than val", name);
  if (name.find(".tmp-") != std::string::npos)
    throw ConfigError("--name {}: holds .tmp-, which marks unfinished files", name);
  if (name.size() > kMaxNameBytes)
    throw ConfigError("--name {}: is longer than {} bytes", quote(name), kMaxNameBytes);
}

void write_record(const std::string& folder, const TokenSet& set) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const TokenFile& file : set.files)
    files.push_back({{"path", file.path}, {"tokens", file.tokens}, {"checksum", file.checksum}});
  const nlohmann::ordered_json root = {{"kind", kKind},
                                       {"version", kVersion},
                                       {"name", set.name},
                                       {"vocab_size", set.vocab_size},
                                       {"token_bytes", set.token_bytes},
                                       {"files", files}};
  write_file_atomically(folder + "/" + record_name(set.name), root.dump(1) + "\n");
}

TokenSet read_record(const std::string& path) {
  const nlohmann::json root = parse_json_object(read_file(path), path);
  if (value_of<std::string>(root, "kind", path) != kKind)
    throw DataError("{}: is not the record of a token set; move it away", path);
  if (const auto version = value_of<int64_t>(root, "version", path); version != kVersion)
    throw DataError("{}: version {} is unknown (this program reads {}); use the program that wrote it", path,
                    version, kVersion);
  TokenSet set{value_of<std::string>(root, "name", path),
               value_of<int64_t>(root, "vocab_size", path),
               value_of<int>(root, "token_bytes", path),
               {}};
  if (!path.ends_with("/" + record_name(set.name)))
    throw DataError("{}: is the record of {}; give it its name again", path, quote(record_name(set.name)));
  for (const nlohmann::json& entry : value_of<std::vector<nlohmann::json>>(root, "files", path)) {
    TokenFile file{value_of<std::string>(entry, "path", path), value_of<int64_t>(entry, "tokens", path),
                   value_of<std::string>(entry, "checksum", path)};
    // What is listed here --overwrite deletes.
    if (!is_shard_of(file.path, set.name) && file.path != kValidationShard)
      throw DataError("{}: lists {}, which is no shard of {}; do not use this record", path, quote(file.path),
                      quote(set.name));
    set.files.push_back(std::move(file));
  }
  return set;
}

EarlierSets::EarlierSets(const OutputFolder& folder, const std::string& name, bool validation)
    : folder_(folder), name_(name), validation_(validation) {
  for (const std::string& file : folder.names()) {
    if (!file.ends_with(kRecordEnd)) continue;
    const std::string record = folder.path() + "/" + file;
    const TokenSet set = read_record(record);
    if (set.name == name) {
      recorded_.insert(file);
      for (const TokenFile& shard : set.files) recorded_.insert(shard.path);
      continue;
    }
    if (is_shard_of(name + ".bin", set.name))
      throw ConfigError("--name {}: would read as a shard of the set that {} records; choose another", name,
                        record);
    for (const TokenFile& shard : set.files) {
      if (validation && shard.path == kValidationShard)
        throw ConfigError(
            "{}/{}: belongs to the set that {} records; pass --val-fraction 0 or choose another --output",
            folder.path(), kValidationShard, record);
      if (is_shard_of(shard.path, name))
        throw ConfigError(
            "{}/{}: belongs to the set that {} records, but would read as one of this set; choose "
            "another --name or --output",
            folder.path(), shard.path, record);
    }
  }
}

void EarlierSets::refuse_any() const {
  for (const std::string& file : folder_.names())
    if (file == record_name(name_) || is_shard_of(file, name_) || (validation_ && file == kValidationShard))
      throw ConfigError("{}/{}: exists already; remove it, choose another --output, or pass --overwrite",
                        folder_.path(), file);
}

void EarlierSets::refuse_unrecorded(const std::vector<std::string>& new_names) const {
  for (const std::string& file : folder_.names())
    if (is_shard_of(file, name_) && recorded_.count(file) == 0 &&
        std::find(new_names.begin(), new_names.end(), file) == new_names.end())
      throw ConfigError(
          "{}/{}: is in no record, but would read as a shard of the new set; move it away or choose another "
          "--output",
          folder_.path(), file);
}

}  // namespace depthroute
