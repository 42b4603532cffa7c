#include "data/model/companions.h"

#include <algorithm>
#include <array>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"

namespace depthroute {
namespace {

// Sorted. Tokenizers of transformers (fast and slow), and what generation reads.
constexpr std::array kFiles = {"added_tokens.json",
                               "chat_template.jinja",
                               "chat_template.json",
                               "generation_config.json",
                               "merges.txt",
                               "special_tokens_map.json",
                               "tokenizer.json",
                               "tokenizer.model",
                               "tokenizer_config.json",
                               "vocab.json"};

bool is_count(const nlohmann::json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT32_MAX};
}

bool fits(const std::string& key, const nlohmann::json& value) {
  if (key == kMaxPositions) return is_count(value) && value.get<int64_t>() > 0;
  if (key == "eos_token_id" && value.is_array()) return std::all_of(value.begin(), value.end(), is_count);
  return is_count(value) || value == -1;  // -1: the way some write "none"
}

}  // namespace

KeptKeys kept_keys_from_json(const std::string& text, const std::string& where) {
  const nlohmann::json root = parse_json_object(text, where);
  KeptKeys keys;
  for (const char* key : {kMaxPositions, "bos_token_id", "eos_token_id", "pad_token_id"}) {
    const auto found = root.find(key);
    if (found == root.end() || found->is_null()) continue;
    if (!fits(key, *found))
      throw DataError("{}: \"{}\" is {}: must be a whole number{}", where, key, describe(*found),
                      std::string(key) == "eos_token_id" ? " or a list of them" : "");
    keys[key] = found->dump();
  }
  return keys;
}

bool Companions::has_tokenizer() const {
  return std::any_of(files.begin(), files.end(), [](const CompanionFile& file) {
    return file.name == "tokenizer.json" || file.name == "tokenizer.model" || file.name == "vocab.json";
  });
}

std::string Companions::checksum(const CompanionFile& file) {
  return hash_bytes(std::as_bytes(std::span<const char>(file.content)));
}

bool is_companion(const std::string& name) {
  return std::find(kFiles.begin(), kFiles.end(), name) != kFiles.end();
}

Companions read_companions(const std::string& folder) {
  const std::string config = folder + "/config.json";
  Companions companions{kept_keys_from_json(read_file(config), config), {}};
  for (const char* name : kFiles)
    if (const std::string path = folder + "/" + name; exists(path))
      companions.files.push_back({name, read_file(path)});
  return companions;
}

void add_tokenizer(Companions& companions, const std::string& tokenizer_json, const std::string& checksum) {
  if (companions.has_tokenizer() || !exists(tokenizer_json)) return;
  if (const std::string found = hash_file(tokenizer_json); found != checksum)
    throw DataError(
        "{}: its checksum is {}, but the shards beside it are of {}; put that tokenizer there again",
        tokenizer_json, found, checksum);
  for (const char* name : kFiles) {
    const bool there = std::any_of(companions.files.begin(), companions.files.end(),
                                   [&](const CompanionFile& file) { return file.name == name; });
    const std::string path = folder_of(tokenizer_json) + "/" + name;
    if (!there && exists(path)) companions.files.push_back({name, read_file(path)});
  }
  std::sort(companions.files.begin(), companions.files.end(),
            [](const CompanionFile& a, const CompanionFile& b) { return a.name < b.name; });
}

std::vector<ManifestFile> write_companions(const std::string& folder, const std::string& below,
                                           std::span<const CompanionFile> files) {
  std::vector<ManifestFile> written;
  for (const CompanionFile& file : files) {
    const std::string path = below.empty() ? file.name : below + "/" + file.name;
    write_file_atomically(folder + "/" + path, file.content);
    written.push_back({path, static_cast<int64_t>(file.content.size()), Companions::checksum(file)});
  }
  return written;
}

void note_trained_length(KeptKeys& keys, int64_t trained) {
  const auto known = keys.find(kMaxPositions);
  if (known == keys.end() || std::stoll(known->second) < trained)
    keys[kMaxPositions] = std::to_string(trained);
}

}  // namespace depthroute
