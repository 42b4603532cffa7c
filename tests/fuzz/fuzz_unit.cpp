// Any bytes as a unit of an evaluation: its seal holds if and only if it is the checksum of all that follows.
// What is sealed is given to HDF5's library, which no fuzzer's bytes ever are: only the check before it is
// tried here.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "data/files.h"
#include "eval/results/unit_seal.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::kSealBytes;

/// Written out, not taken from the writer.
std::string sealed(std::string_view content) {
  std::string seal = "depthroute-eval unit, XXH3-128 of what follows byte 512: " +
                     depthroute::hash_bytes(std::as_bytes(std::span(content))) + "\n";
  seal.resize(512, '\0');
  return seal.append(content);
}

bool accepted(std::string_view bytes) {
  const depthroute::MemoryFile file(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  try {
    depthroute::check_seal(file.path());
    return true;
  } catch (const depthroute::DataError& error) {
    check_message(error);
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  DR_CHECK(accepted(input) ==
           (size >= kSealBytes && input == sealed(input.substr(std::min<size_t>(size, kSealBytes)))));

  // The input sealed, and then with one bit turned or its end gone, at places that it names itself.
  const std::string whole = sealed(input);
  DR_CHECK(accepted(whole));
  uint32_t place = 0;
  if (size > 0) std::memcpy(&place, data, std::min(size, sizeof(place)));
  std::string damaged = whole;
  damaged[(place >> 3) % damaged.size()] ^= static_cast<char>(1 << (place & 7));
  DR_CHECK(!accepted(damaged));
  DR_CHECK(!accepted(std::string_view(whole).substr(0, place % whole.size())));
  return 0;
}
