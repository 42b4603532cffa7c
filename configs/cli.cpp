#include "configs/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "configs/base/error.h"
#include "configs/failure.h"
#include "configs/scalar.h"
#include "configs/standard_streams.h"

namespace depthroute {
namespace {

/// Quotes a word for a shell. Escapes bytes that are not text, because results record the command line.
std::string shell_quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-=:,+@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  if (const std::string escaped = one_line(word); escaped != word) {
    std::string quoted;
    for (const char c : word) quoted += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return "$'" + one_line(quoted) + "'";
  }
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string with_line_break(const std::string& text) {
  return !text.empty() && text.back() == '\n' ? text : text + '\n';
}

/// Fills `line` from the arguments. Returns true if they only asked for help, which it then has printed.
bool parse(int argc, char** argv, const std::string& description, const std::string& reference,
           const std::vector<ProgramOption>& options, CommandLine& line) {
  CLI::App app(description, line.program);
  app.add_option("CONFIG", line.config_path, "configuration, a YAML file")->required();
  app.add_option("--set", line.overrides, "set a key for this run; can be given several times")
      ->type_name("key.path=value")
      ->type_size(1)
      ->allow_extra_args(false);
  app.add_flag("--dry-run", line.dry_run,
               "check the configuration and print what would be done and what it needs");
  app.add_flag("--print-config", line.print_config, "print the whole configuration, defaults included");
  for (const ProgramOption& option : options) {
    if (option.value.empty()) {
      app.add_flag_callback(
          option.name, [&line, name = option.name] { line.options[name]; }, option.help);
      continue;
    }
    app.add_option_function<std::string>(
           option.name, [&line, name = option.name](const std::string& value) { line.options[name] = value; },
           option.help)
        ->type_name(option.value);
  }
  // Throws before CLI11 notices that CONFIG is missing, as its --help does.
  const auto print_and_leave = [&](const std::string& text) {
    return [text] { throw CLI::CallForVersion(text, 0); };
  };
  app.add_flag_callback("--help-config", print_and_leave(reference), "print all keys of a configuration");
  app.add_flag_callback(
      "--version",
      print_and_leave(fmt::format("{} {} ({})", line.program, program_version(), program_commit())),
      "print version and commit");

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_result(with_line_break(app.help()));
    return true;
  } catch (const CLI::CallForVersion& text) {
    print_result(with_line_break(text.what()));
    return true;
  } catch (const CLI::ParseError& error) {
    throw ConfigError("{}; see --help", error.what());
  }
  return false;
}

}  // namespace

int run_program(int argc, char** argv, const std::string& description, const std::string& reference,
                const std::vector<ProgramOption>& options,
                const std::function<int(const CommandLine&)>& body) {
  secure_standard_streams();
  CommandLine line;
  try {
    line.program = argc > 0 ? argv[0] : "depthroute";
    line.program = line.program.substr(line.program.rfind('/') + 1);
    for (int i = 0; i < argc; ++i) line.text += (i > 0 ? " " : "") + shell_quoted(argv[i]);
    if (parse(argc, argv, description, reference, options, line)) return kExitOk;
    const int status = body(line);
    if (line.dry_run || line.print_config) require_printed();
    return status;
  } catch (...) {
    const Failure failure = current_failure();
    report(line.program, failure);
    return failure.status;
  }
}

int64_t option_number(const CommandLine& line, const std::string& name, int64_t least, int64_t most) {
  const std::string& text = line.options.at(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    throw ConfigError("{}: '{}' is not a whole number in [{}, {}]", name, text, least, most);
  return value;
}

}  // namespace depthroute
