// Companions of a model: what other programs need beside its numbers. Files of the tokenizer and of generation, and a
// few keys of config.json. They travel whole from folder to folder: import, model.from, checkpoints, export. Nothing
// here reads what they say.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/manifest.h"

namespace depthroute {

/// Keys of config.json that are kept, each with its value as JSON text: max_position_embeddings, bos_token_id,
/// eos_token_id, pad_token_id. Absent or null: not there.
using KeptKeys = std::map<std::string, std::string>;
inline constexpr const char* kMaxPositions = "max_position_embeddings";

/// Reads them from the text of a config.json; DataError naming `where` and the key for anything but whole numbers
/// (a list of them for eos_token_id).
KeptKeys kept_keys_from_json(const std::string& text, const std::string& where);

struct CompanionFile {
  std::string name, content;
};

struct Companions {
  KeptKeys keys;
  std::vector<CompanionFile> files;  // by name

  bool has_tokenizer() const;
  /// The checksum of a file's content as manifests have it.
  static std::string checksum(const CompanionFile& file);
};

/// Whether a file of a model folder travels along: tokenizer.json, generation_config.json ...
bool is_companion(const std::string& name);

/// Reads what is in the folder; it must have a config.json. DataError for files larger than kMaxTextBytes.
Companions read_companions(const std::string& folder);

/// Adds the files of the tokenizer that made a model's data, `tokenizer_json` and what lies beside it, unless the
/// model came with one of its own. Adds nothing if the file is not there; DataError if it has another checksum.
void add_tokenizer(Companions& companions, const std::string& tokenizer_json, const std::string& checksum);

/// Writes the files into the folder `folder`/`below` (`below` may be empty) and describes them relative to `folder`.
/// The keys are config.json's (model_config_to_json()).
std::vector<ManifestFile> write_companions(const std::string& folder, const std::string& below,
                                           std::span<const CompanionFile> files);

/// The length a model was trained for, where `trained` tokens are added to what is known: the larger one.
void note_trained_length(KeptKeys& keys, int64_t trained);

}  // namespace depthroute
