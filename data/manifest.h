// manifest.json: the list of a folder's files with size and checksum. A checkpoint is whole if and only if
// its manifest is there and every file agrees with it (SPEC §4, DESIGN §5).
#pragma once

#include <cstdint>
#include <span>
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
  std::vector<ManifestFile> files;  // sorted by path; without manifest.json itself
};

/// The entry of a file that lies in `folder`, read back from there.
ManifestFile describe_file(const std::string& folder, const std::string& path);
/// A list as text and back, for telling another process. DataError naming `where`.
std::string files_to_json(std::span<const ManifestFile> files);
std::vector<ManifestFile> files_from_json(const std::string& text, const std::string& where);

/// Writes manifest.json (last: its presence says the rest is there). `files` is everything there, as whoever
/// wrote it describes it; a file that is absent or of another size, and tensors nobody described, are a
/// SystemError.
void write_manifest(const std::string& folder, const std::string& kind, int64_t step,
                    std::vector<ManifestFile> files);
/// Reads it and compares every file (existence, size, checksum). DataError naming the first file that
/// disagrees, or tensors (*.safetensors and their index) that are not listed: they would be read with the
/// rest. Other files somebody has added, a tokenizer for one, do not matter. AccessError where it cannot be
/// told.
Manifest verify_manifest(const std::string& folder);
bool has_manifest(const std::string& folder);

}  // namespace depthroute
