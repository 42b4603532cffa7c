#include "data/tokens/shard_manifest.h"

#include <set>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/posix.h"

namespace depthroute {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kKind = "depthroute token shards";
constexpr int64_t kVersion = 1;
constexpr int64_t kMaxVocab = int64_t{1} << 31;

/// One object of a manifest, whose values are checked as they are taken.
class Object {
 public:
  Object(const nlohmann::json& object, const std::string& where) : object_(object), where_(where) {
    if (!object.is_object()) fail("", fmt::format("holds {}, not an object", describe(object)));
  }

  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  std::string text(const char* key) const {
    if (!at(key).is_string()) fail(key, fmt::format("is {}, not a string", describe(at(key))));
    return at(key).get<std::string>();
  }
  int64_t number(const char* key, int64_t least, int64_t most) const {
    const nlohmann::json& value = at(key);
    // get<int64_t>() wraps what is larger and cuts fractions off.
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) ||
        value.get<int64_t>() < least || value.get<int64_t>() > most)
      fail(key, fmt::format("is {}, not an integer from {} to {}", describe(value), least, most));
    return value.get<int64_t>();
  }
  const nlohmann::json& list(const char* key) const {
    if (!at(key).is_array()) fail(key, fmt::format("is {}, not a list", describe(at(key))));
    return at(key);
  }
  Object object(const char* key) const { return {at(key), where_}; }
  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    throw DataError("{}: damaged: {}{}; move it away, or make its shards again", where_,
                    key.empty() ? "" : quote(key) + " ", what);
  }

 private:
  const nlohmann::json& at(const char* key) const {
    if (!object_.contains(key)) fail(key, "is missing");
    return object_.at(key);
  }

  const nlohmann::json& object_;
  const std::string& where_;
};

TokenizerIdentity read_tokenizer(const Object& object) {
  TokenizerIdentity tokenizer{object.text("name"), "", ""};
  if (object.has("checksum")) tokenizer.checksum = object.text("checksum");
  if (object.has("path")) tokenizer.file = object.text("path");
  if (tokenizer.checksum.empty() != tokenizer.file.empty())
    object.fail("tokenizer", "has only one of path and checksum");
  if (!tokenizer.file.empty() &&
      (!stays_inside(tokenizer.file) || tokenizer.file.find('/') != std::string::npos))
    object.fail("tokenizer", fmt::format("has the path {}, not a plain name", quote(tokenizer.file)));
  return tokenizer;
}

TokenFile read_file_entry(const Object& entry, const std::string& set, std::set<std::string>& seen) {
  TokenFile file{entry.text("path"), entry.number("tokens", 0, INT32_MAX), entry.text("checksum")};
  // tools/ deletes what is listed here when it overwrites a set.
  if (!is_shard_of(file.path, set) && !is_shard_of(file.path, kValidationName))
    entry.fail("files", fmt::format("lists {}, which is no shard of {}", quote(file.path), quote(set)));
  if (!seen.insert(file.path).second) entry.fail("files", fmt::format("lists {} twice", quote(file.path)));
  return file;
}

json to_json(const ShardManifest& manifest) {
  json root = {{"kind", kKind},
               {"version", kVersion},
               {"name", manifest.name},
               {"vocab_size", manifest.vocab_size},
               {"token_bytes", manifest.token_bytes}};
  if (manifest.tokenizer) {
    root["tokenizer"]["name"] = manifest.tokenizer->name;
    if (!manifest.tokenizer->file.empty()) {
      root["tokenizer"]["path"] = manifest.tokenizer->file;
      root["tokenizer"]["checksum"] = manifest.tokenizer->checksum;
    }
  }
  root["separator"] = manifest.separator ? json(*manifest.separator) : json();
  if (manifest.documents) root["documents"] = *manifest.documents;
  root["tokens"] = manifest.tokens();
  if (!manifest.sources.empty()) root["sources"] = json::array();
  for (const TokenSource& source : manifest.sources)
    root["sources"].push_back({{"path", source.path}, {"size", source.size}, {"checksum", source.checksum}});
  root["files"] = json::array();
  for (const TokenFile& file : manifest.files)
    root["files"].push_back({{"path", file.path}, {"tokens", file.tokens}, {"checksum", file.checksum}});
  return root;
}

}  // namespace

std::string TokenizerIdentity::describe() const {
  return checksum.empty() ? name : fmt::format("{} ({})", name, checksum);
}

int64_t ShardManifest::tokens() const {
  int64_t total = 0;
  for (const TokenFile& file : files) total += file.tokens;
  return total;
}

std::string shard_manifest_name(const std::string& name) { return name + kManifestEnd; }

bool is_shard_of(const std::string& file, const std::string& name) {
  if (!file.starts_with(name) || !file.ends_with(".bin") || file.size() < name.size() + 4) return false;
  const std::string number = file.substr(name.size(), file.size() - name.size() - 4);
  return number.empty() || (number.size() > 1 && number[0] == '_' &&
                            number.find_first_not_of("0123456789", 1) == std::string::npos);
}

void write_shard_manifest(const std::string& folder, const ShardManifest& manifest) {
  // Paths are bytes, JSON is UTF-8: what is not becomes U+FFFD.
  write_file_atomically(
      folder + "/" + shard_manifest_name(manifest.name),
      to_json(manifest).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

ShardManifest read_shard_manifest(const std::string& path) {
  const nlohmann::json parsed = parse_json_object(read_file(path), path);
  const Object root(parsed, path);
  if (root.text("kind") != kKind)
    throw DataError("{}: is not the manifest of a token set; move it away", path);
  if (const int64_t version = root.number("version", INT64_MIN, INT64_MAX); version != kVersion)
    throw DataError("{}: version {} is unknown (this program reads {}); use the program that wrote it", path,
                    version, kVersion);
  ShardManifest manifest;
  manifest.name = root.text("name");
  if (!path.ends_with("/" + shard_manifest_name(manifest.name)))
    throw DataError("{}: is the manifest of {}; give it its name again", path,
                    quote(shard_manifest_name(manifest.name)));
  manifest.vocab_size = root.number("vocab_size", 1, kMaxVocab);
  manifest.token_bytes = static_cast<int>(root.number("token_bytes", 2, 4));
  if (manifest.token_bytes == 3) root.fail("token_bytes", "is 3, not 2 or 4");
  if (root.has("tokenizer")) manifest.tokenizer = read_tokenizer(root.object("tokenizer"));
  if (root.has("separator")) manifest.separator = root.number("separator", 0, manifest.vocab_size - 1);
  if (root.has("documents")) manifest.documents = root.number("documents", 0, INT64_MAX);
  if (root.has("sources"))
    for (const nlohmann::json& entry : root.list("sources")) {
      const Object source(entry, path);
      manifest.sources.push_back(
          {source.text("path"), source.number("size", 0, INT64_MAX), source.text("checksum")});
    }
  std::set<std::string> seen;
  for (const nlohmann::json& entry : root.list("files"))
    manifest.files.push_back(read_file_entry({entry, path}, manifest.name, seen));
  if (root.has("tokens") && root.number("tokens", 0, INT64_MAX) != manifest.tokens())
    root.fail("tokens", fmt::format("is {}, but the files have {}", root.number("tokens", 0, INT64_MAX),
                                    manifest.tokens()));
  return manifest;
}

}  // namespace depthroute
