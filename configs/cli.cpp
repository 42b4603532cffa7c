#include "configs/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <exception>
#include <new>

#include "configs/base/error.h"
#include "configs/scalar.h"

namespace depthroute {
namespace {

std::string shell_quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-=:,+@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

int report(const std::string& program, const std::string& message, int status) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: error: {}\n", program, one_line(message));
  return status;
}

int print_text(const std::string& text) {
  fmt::print("{}{}", text, !text.empty() && text.back() == '\n' ? "" : "\n");
  std::fflush(stdout);
  return kExitOk;
}

}  // namespace

int run_program(int argc, char** argv, const std::string& description, const std::string& reference,
                const std::vector<ProgramOption>& options,
                const std::function<int(const CommandLine&)>& body) {
  CommandLine line;
  line.program = argc > 0 ? argv[0] : "depthroute";
  line.program = line.program.substr(line.program.rfind('/') + 1);
  for (int i = 0; i < argc; ++i) line.text += (i > 0 ? " " : "") + shell_quoted(argv[i]);

  CLI::App app(description, line.program);
  app.add_option("CONFIG", line.config_path, "configuration, a YAML file")->required();
  app.add_option("--set", line.overrides, "set a key for this run; can be given several times")
      ->type_name("key.path=value")
      ->type_size(1)
      ->allow_extra_args(false);
  app.add_flag("--dry-run", line.dry_run,
               "check the configuration and print what would be done and what it needs");
  app.add_flag("--print-config", line.print_config, "print the whole configuration, defaults included");
  for (const ProgramOption& option : options)
    app.add_option_function<std::string>(
           option.name, [&line, name = option.name](const std::string& value) { line.options[name] = value; },
           option.help)
        ->type_name(option.value);
  // Thrown before CONFIG is missed, as for --help.
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
    return print_text(app.help());
  } catch (const CLI::CallForVersion& text) {
    return print_text(text.what());
  } catch (const CLI::ParseError& error) {
    return report(line.program, std::string(error.what()) + "; see --help", kExitBadInput);
  }

  try {
    return body(line);
  } catch (const InputError& error) {
    return report(line.program, error.what(), kExitBadInput);
  } catch (const std::bad_alloc&) {
    return report(line.program, "out of memory", kExitFailure);
  } catch (const std::exception& error) {
    return report(line.program, error.what(), kExitFailure);
  } catch (...) {
    return report(line.program, "unknown failure", kExitFailure);
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
