// The command line both programs share (SPEC §8): CONFIG.yaml [--set key.path=value]... [--dry-run]
// [--print-config] and --help-config, --version.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace depthroute {

struct CommandLine {
  std::string program, config_path;
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool print_config = false;
  std::string text;  // the command line, to be pasted into a shell; UTF-8 whatever was typed
  std::map<std::string, std::string> options;  // the program's own that were given, by name
};

/// An option of one program alone, with a value: "--processes", "N", what it does.
struct ProgramOption {
  std::string name, value, help;
};

/// Runs `body` after parsing; --help, --help-config (prints `reference`) and --version never reach it.
/// Returns body's status, or that of what it throws (failure.h), with one line on standard error; 1 also if
/// what was asked for cannot be printed. Standard streams are secured first (standard_streams.h).
int run_program(int argc, char** argv, const std::string& description, const std::string& reference,
                const std::vector<ProgramOption>& options,
                const std::function<int(const CommandLine&)>& body);

/// A whole number in [least, most] from an option's value. ConfigError naming the option otherwise.
int64_t option_number(const CommandLine& line, const std::string& name, int64_t least,
                      int64_t most = 1'000'000'000);

/// "0.1.0" and the git commit the program was built from ("unknown" outside a checkout, "-dirty" when
/// changed).
const char* program_version();
const char* program_commit();

}  // namespace depthroute
