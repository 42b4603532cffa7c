// Where a test finds golden cases, sources and built programs: the paths it was compiled with, or those an
// environment variable of the same name gives, so that installed tests run on other machines.
#pragma once

#include <cstdlib>
#include <string>

namespace depthroute::test_paths {

inline std::string of(const char* variable, const char* compiled) {
  const char* given = std::getenv(variable);
  return given && *given ? given : compiled;
}

/// tests/golden
inline std::string golden() { return of("DEPTHROUTE_GOLDEN_DIR", DEPTHROUTE_GOLDEN_DIR); }
/// The root of the sources
inline std::string source() { return of("DEPTHROUTE_SOURCE_DIR", DEPTHROUTE_SOURCE_DIR); }
/// The folder of the programs
inline std::string bin() { return of("DEPTHROUTE_BIN_DIR", DEPTHROUTE_BIN_DIR); }

}  // namespace depthroute::test_paths
