#include "eval/results/unit_seal.h"

#include <cstring>

#include "configs/base/error.h"
#include "data/files.h"

namespace depthroute {
namespace {

std::string seal_over(const MappedFile& file, const std::string& path) {
  if (file.size() < kSealBytes) throw DataError("{}: is damaged, or not a unit of an evaluation", path);
  std::string seal = fmt::format("{}, XXH3-128 of what follows byte {}: {}\n", kUnitKind, kSealBytes,
                                 hash_bytes(file.bytes().subspan(kSealBytes)));
  seal.resize(kSealBytes, '\0');
  return seal;
}

}  // namespace

std::string seal_of(const std::string& path) { return seal_over(MappedFile(path), path); }

void check_seal(const std::string& path) {
  const MappedFile file(path);
  const std::string seal = seal_over(file, path);
  if (std::memcmp(file.bytes().data(), seal.data(), seal.size()) != 0)
    throw DataError("{}: is damaged, or not a unit of an evaluation", path);
}

}  // namespace depthroute
