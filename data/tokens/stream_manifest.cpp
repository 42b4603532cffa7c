#include <filesystem>
#include <list>
#include <map>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/tokens/shard_manifest.h"
#include "data/tokens/token_stream.h"

namespace depthroute {
namespace {

struct Listing {
  const ShardManifest* manifest;
  std::string path;  // of the manifest
  const TokenFile* file;
};

/// What the manifests of one folder list, by file name.
class FolderManifests {
 public:
  explicit FolderManifests(const std::string& folder) {
    for (const std::string& name : list_folder(folder)) {
      if (!name.ends_with(kManifestEnd) || !name_when_finished(name).empty()) continue;
      const std::string path = folder + "/" + name;
      const ShardManifest& manifest = manifests_.emplace_back(read_shard_manifest(path));
      for (const TokenFile& file : manifest.files) listings_[file.path].push_back({&manifest, path, &file});
    }
  }
  FolderManifests(const FolderManifests&) = delete;
  FolderManifests& operator=(const FolderManifests&) = delete;

  /// Null if no manifest lists the file; DataError if several do.
  const Listing* find(const std::string& file) const {
    const auto found = listings_.find(file);
    if (found == listings_.end()) return nullptr;
    if (found->second.size() > 1)
      throw DataError("{}: is listed in {} and in {}; move one of them away", file, found->second[0].path,
                      found->second[1].path);
    return &found->second.front();
  }

 private:
  std::list<ShardManifest> manifests_;
  std::map<std::string, std::vector<Listing>> listings_;
};

void check_listed(const ShardInfo& shard, const Listing& listing, int64_t vocab_size) {
  const ShardManifest& manifest = *listing.manifest;
  if (manifest.vocab_size > vocab_size)
    throw DataError(
        "{}: its tokenizer{} has {} tokens, more than the model's vocabulary of {}; tokenise with this model's "
        "tokenizer or set model.vocab_size",
        listing.path, manifest.tokenizer ? " " + manifest.tokenizer->describe() : "", manifest.vocab_size,
        vocab_size);
  if (shard.num_tokens != listing.file->tokens || shard.token_bytes != manifest.token_bytes)
    throw DataError(
        "{}: holds {} tokens of {} bytes, but {} lists {} of {}; restore it, or make the set again",
        shard.path, shard.num_tokens, shard.token_bytes, listing.path, listing.file->tokens,
        manifest.token_bytes);
}

}  // namespace

void StreamManifest::check(size_t index, const std::string& path, const std::string& checksum) const {
  const Listed& listed = shards.at(index);
  if (!listed.manifest.empty() && listed.checksum != checksum)
    throw DataError("{}: its checksum is {}, but {} lists {}; restore it, or make the set again", path,
                    checksum, listed.manifest, listed.checksum);
}

StreamManifest read_stream_manifest(std::span<const ShardInfo> shards, int64_t vocab_size) {
  StreamManifest all;
  std::map<std::string, FolderManifests> by_folder;
  std::string named_by;  // the manifest that all.tokenizer is from
  bool all_listed = true;
  for (const ShardInfo& shard : shards) {
    const std::string folder = folder_of(shard.path);
    const FolderManifests& manifests = by_folder.try_emplace(folder, folder).first->second;
    const Listing* listing = manifests.find(std::filesystem::path(shard.path).filename());
    if (listing == nullptr) {
      all.shards.emplace_back();
      all_listed = false;
      continue;
    }
    check_listed(shard, *listing, vocab_size);
    const ShardManifest& manifest = *listing->manifest;
    if (manifest.tokenizer && all.tokenizer && !manifest.tokenizer->same_as(*all.tokenizer))
      throw DataError(
          "{}: its tokens are of {}, those of {} of {}; one stream is of one tokenizer: make them again",
          listing->path, manifest.tokenizer->describe(), named_by, all.tokenizer->describe());
    if (manifest.tokenizer && !all.tokenizer) {
      all.tokenizer = manifest.tokenizer;
      if (!all.tokenizer->file.empty()) all.tokenizer->file = folder + "/" + all.tokenizer->file;
      named_by = listing->path;
    }
    if (all.shards.empty()) all.separator = manifest.separator;
    if (all.separator != manifest.separator) all_listed = false;
    all.shards.push_back({listing->path, listing->file->checksum});
  }
  if (!all_listed) all.separator.reset();
  return all;
}

}  // namespace depthroute
