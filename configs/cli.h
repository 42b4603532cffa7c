// The command line that both programs share: CONFIG.yaml [--set key.path=value]... [--dry-run]
// [--print-config], --help-config and --version.
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
  std::string text;  // the whole command line, quoted for a shell; always valid UTF-8
  std::map<std::string, std::string> options;  // the program's own options that were given, by name
};

/// An option of one program only: "--processes", "N", what it does. No value: a flag, "" in CommandLine::options
/// where it is given.
struct ProgramOption {
  std::string name, value, help;
};

/// Secures the standard streams (standard_streams.h), parses the command line and runs `body`; --help,
/// --help-config (prints `reference`) and --version never reach it. Returns body's status. If it throws,
/// prints one line on standard error and returns the exception's status (failure.h); 1 if the output that was
/// asked for cannot be printed.
int run_program(int argc, char** argv, const std::string& description, const std::string& reference,
                const std::vector<ProgramOption>& options,
                const std::function<int(const CommandLine&)>& body);

/// Returns an option's value as a whole number in [least, most]; ConfigError naming the option otherwise.
int64_t option_number(const CommandLine& line, const std::string& name, int64_t least,
                      int64_t most = 1'000'000'000);

/// "0.1.0", and the git commit the program was built from: "unknown" outside a checkout, "-dirty" if it had
/// uncommitted changes.
const char* program_version();
const char* program_commit();

}  // namespace depthroute
