// depthroute-tokenize: turns text into token shards, one token per byte, without a tokenizer and without
// holding the text in memory.
//   depthroute-tokenize book.txt --output shards
//   zcat corpus.gz | depthroute-tokenize - --output shards --val-fraction 0.001 --shard-tokens 50000000
// For models of vocab_size 256 (257 with --end-of-text): experiments that need real text and nothing else.
// The set is written beside the output folder and takes its place in one step (output_folder.h), whole or not
// at all.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/standard_streams.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "tools/cutter.h"
#include "tools/output_folder.h"
#include "tools/token_set.h"
#include "tools/tokenize_input.h"

namespace depthroute {
namespace {

constexpr int32_t kEndOfText = 256;
constexpr size_t kChunkBytes = size_t{1} << 20;

struct Options {
  std::vector<std::string> inputs;
  std::string output;
  CutOptions cut;
  bool overwrite = false;
};

/// Prints to standard error, which may be closed or full.
void note(const std::string& text) { (void)print_text(stderr, text); }

int fail(std::string reason, int status) {
  for (char& c : reason)  // names can hold anything, a message is one line
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  note(fmt::format("depthroute-tokenize: {}\n", reason));
  return status;
}

TokenSource tokenize_input(const Input& input, Cutter& cutter, int64_t& done, int64_t total) {
  const bool show = ::isatty(STDERR_FILENO) != 0;
  std::vector<char> buffer(kChunkBytes);
  std::vector<int32_t> tokens;
  Hasher hasher;
  for (int64_t left = input.size(); left > 0;) {
    const size_t count = input.read(buffer);
    if (count == 0 || static_cast<int64_t>(count) > left)
      throw DataError("{}: changed while it was read; run again when it is complete", input.path());
    hasher.update(std::as_bytes(std::span(buffer).first(count)));
    tokens.resize(count);
    for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<unsigned char>(buffer[i]);
    cutter.append(tokens);
    left -= static_cast<int64_t>(count);
    done += static_cast<int64_t>(count);
    if (show) note(fmt::format("\r{:5.1f} % of {} tokens", 100.0 * done / total, total));
  }
  return {input.path(), input.size(), hasher.hex()};
}

/// Runs once the set is in place: a failure here does not harm it.
void print_list(const Options& options, const Plan& plan, double entropy) {
  std::string text;
  for (const std::string& name : plan.names()) text += fmt::format("{}/{}\n", options.output, name);
  text += fmt::format("tokens: {} ({} for training, {} for validation), vocabulary {}\n", plan.total,
                      plan.total - plan.val, plan.val, plan.vocab_size);
  text += fmt::format("unigram entropy: {:.4f} nats/token\n", entropy);
  if (const int error = print_text(stdout, text))
    throw SystemError("the set in {} is complete, but its list cannot be printed: {}", options.output,
                      print_error(error));
}

int tokenize(const Options& options) {
  check(options.cut);
  const OutputFolder output(options.output);
  const EarlierSets earlier(output, options.cut.name, options.cut.val_fraction > 0);
  if (!options.overwrite) earlier.refuse_any();
  AtomicFolder unfinished(output.path());
  output.carry_over(unfinished.path(), earlier.listed());

  std::vector<Input> inputs;
  for (const std::string& path : options.inputs) inputs.emplace_back(path, unfinished.path());
  const Plan plan = plan_shards(options.cut, inputs);
  earlier.refuse_unlisted(plan.names());
  Cutter cutter(unfinished.path(), plan);
  std::vector<TokenSource> sources;
  int64_t done = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i > 0 && options.cut.end_of_text) {
      cutter.append(std::span(&kEndOfText, 1));
      ++done;
    }
    sources.push_back(tokenize_input(inputs[i], cutter, done, plan.total));
  }
  if (::isatty(STDERR_FILENO) != 0) note(fmt::format("\r{:60}\r", ""));
  write_shard_manifest(
      unfinished.path(),
      {.name = options.cut.name,
       .vocab_size = plan.vocab_size,
       .token_bytes = 2,
       .tokenizer = TokenizerIdentity{"bytes", "", ""},
       .separator = options.cut.end_of_text ? std::optional<int64_t>(kEndOfText) : std::nullopt,
       .documents = static_cast<int64_t>(inputs.size()),
       .sources = std::move(sources),
       .files = cutter.done()});

  std::set<std::string> dropped = earlier.listed();
  for (const std::string& name : plan.names()) dropped.insert(name);
  output.pass_on_mode(unfinished.path());
  throw_if_stopped();
  output.check_unchanged(dropped);
  unfinished.commit();
  print_list(options, plan, cutter.unigram_entropy());
  return kExitOk;
}

int run(int argc, char** argv) {
  secure_standard_streams();
  Options options;
  CLI::App app("Text files to llm.c token shards, one token per byte (vocab_size 256).",
               "depthroute-tokenize");
  app.set_version_flag("--version", fmt::format("{} ({})", program_version(), program_commit()));
  app.add_option("input", options.inputs, "text files; - is standard input")->required();
  app.add_option("--output", options.output, "folder for the shards (made if it is not there)")->required();
  app.add_option("--name", options.cut.name, "training shards are NAME.bin, or NAME_000.bin ...")
      ->capture_default_str();
  app.add_option("--shard-tokens", options.cut.shard_tokens, "most tokens in a training shard")
      ->capture_default_str();
  app.add_option("--val-fraction", options.cut.val_fraction,
                 "part of the text, from its end, that goes to val.bin (0 to 0.5)")
      ->capture_default_str();
  app.add_flag("--end-of-text", options.cut.end_of_text, "token 256 between input files (vocab_size 257)");
  app.add_flag("--overwrite", options.overwrite,
               "replace the set that NAME.shards.json in the folder lists, and files of the new one's names");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    app.exit(help);
    return std::cout.flush() ? kExitOk : kExitFailure;
  } catch (const CLI::ParseError& error) {
    return fail(fmt::format("{}; see --help", error.what()), kExitBadInput);
  }
  hold_stop_signals();
  return tokenize(options);
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  using namespace depthroute;
  try {
    return run(argc, argv);
  } catch (const InputError& error) {
    return fail(error.what(), kExitBadInput);
  } catch (const std::exception& error) {
    return fail(error.what(), kExitFailure);
  }
}
