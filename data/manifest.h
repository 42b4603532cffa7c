// manifest.json: the list of a folder's files with size and checksum. A checkpoint is whole if and only if
// its manifest is there and every file agrees with it (SPEC §4, DESIGN §5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace depthroute {

struct ManifestFile {
  std::string path;  // relative to the folder, '/' between parts
  int64_t size = 0;
  std::string checksum;  // hash_file(): XXH3-128, hex
};

struct Manifest {
  std::string kind;  // "depthroute checkpoint"
  int version = 1;
  int64_t step = 0;
  std::vector<ManifestFile>
      files;  // sorted by path; every regular file below the folder but manifest.json itself
};

/// Lists and hashes everything below `folder`, writes manifest.json (last: its presence says the rest is
/// there).
void write_manifest(const std::string& folder, const std::string& kind, int64_t step);
/// Reads it and compares every file (existence, size, checksum). DataError naming the first file that
/// disagrees.
Manifest verify_manifest(const std::string& folder);

/// What `model.from` names -> the model folder: a checkpoint folder or a link to one (its manifest is
/// verified, its model/ is used), a run folder (its checkpoints/latest), or a model folder itself. DataError
/// otherwise.
std::string find_model_folder(const std::string& path);

}  // namespace depthroute
