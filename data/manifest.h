// manifest.json: the list of a folder's files with size and checksum. A checkpoint is whole if and only if
// its manifest exists and every file agrees with it (train/model/SPEC.md §4).
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

/// Reads a file of `folder` back and returns its entry.
ManifestFile describe_file(const std::string& folder, const std::string& path);
/// A list as text and back, for sending it to another rank. DataError naming `where`.
std::string files_to_json(std::span<const ManifestFile> files);
std::vector<ManifestFile> files_from_json(const std::string& text, const std::string& where);

/// Writes manifest.json (last: its presence says the rest is complete). `files` describes everything in the
/// folder, as each writer saw it. SystemError if a file is absent or of another size, or if there are tensors
/// that nobody described.
void write_manifest(const std::string& folder, const std::string& kind, int64_t step,
                    std::vector<ManifestFile> files);
/// Reads the manifest and compares every file (existence, size, checksum). DataError naming the first file
/// that disagrees, or tensors (*.safetensors and their index) that are not listed: they would be read with
/// the rest. Other files that somebody added, e.g. a tokenizer, do not matter. AccessError if something
/// cannot be read.
Manifest verify_manifest(const std::string& folder);
bool has_manifest(const std::string& folder);

}  // namespace depthroute
