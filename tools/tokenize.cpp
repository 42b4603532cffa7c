// depthroute-tokenize: text to token shards, one token per byte, without reading a tokenizer or holding the
// text in memory.
//   depthroute-tokenize book.txt --output shards
//   zcat corpus.gz | depthroute-tokenize - --output shards --val-fraction 0.001 --shard-tokens 50000000
// For models of vocab_size 256 (257 with --end-of-text): experiments that need real text and nothing else.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "data/files.h"
#include "data/posix.h"
#include "data/token_stream.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kEndOfText = 256;
constexpr size_t kChunkBytes = size_t{1} << 20;

volatile std::sig_atomic_t stop_requested = 0;
void request_stop(int) { stop_requested = 1; }

struct Options {
  std::vector<std::string> inputs;
  std::string output;
  std::string name = "train";
  int64_t shard_tokens = 100'000'000;
  double val_fraction = 0.01;
  bool end_of_text = false;
  bool overwrite = false;
};

size_t read_chunk(int fd, std::vector<char>& buffer, const std::string& path) {
  while (true) {
    if (stop_requested != 0) throw SystemError("interrupted; nothing was written");
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) throw DataError("{}: cannot read: {}", path, errno_text(errno));
  }
}

/// One input, opened. What cannot be measured beforehand (standard input, a pipe) is first copied to an
/// unnamed file in the output folder: where the validation text begins depends on the length of everything.
class Input {
 public:
  Input(const std::string& path, const std::string& spool_folder)
      : path_(path == "-" ? "standard input" : path),
        file_(std::make_unique<FileDescriptor>(path == "-" ? ::dup(STDIN_FILENO)
                                                           : open_retrying(path, O_RDONLY))) {
    if (!file_->valid()) throw DataError("{}: cannot open: {}", path_, errno_text(errno));
    struct stat status;
    if (::fstat(file_->get(), &status) != 0) throw DataError("{}: cannot open: {}", path_, errno_text(errno));
    if (S_ISDIR(status.st_mode)) throw DataError("{}: is a folder; give text files", path_);
    const bool measurable = S_ISREG(status.st_mode) && ::lseek(file_->get(), 0, SEEK_CUR) == 0;
    size_ = measurable ? static_cast<int64_t>(status.st_size) : spool(spool_folder);
  }

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  size_t read(std::vector<char>& buffer) const { return read_chunk(file_->get(), buffer, path_); }

 private:
  int64_t spool(const std::string& folder) {
    std::string name = folder + "/input-XXXXXX";
    auto copy = std::make_unique<FileDescriptor>(::mkstemp(name.data()));
    if (!copy->valid()) throw SystemError("cannot create {}: {}", name, errno_text(errno));
    ::unlink(name.c_str());
    std::vector<char> buffer(kChunkBytes);
    int64_t total = 0;
    while (const size_t count = read_chunk(file_->get(), buffer, path_)) {
      for (size_t done = 0; done < count;) {
        const ssize_t written = ::write(copy->get(), buffer.data() + done, count - done);
        if (written < 0 && errno != EINTR)
          throw SystemError("{}: cannot write: {}", folder, errno_text(errno));
        done += written < 0 ? 0 : static_cast<size_t>(written);
      }
      total += static_cast<int64_t>(count);
    }
    ::lseek(copy->get(), 0, SEEK_SET);
    file_ = std::move(copy);
    return total;
  }

  std::string path_;
  std::unique_ptr<FileDescriptor> file_;
  int64_t size_ = 0;
};

/// Cuts the arriving tokens into the training shards and the validation shard, all in one unfinished folder.
class Shards {
 public:
  Shards(std::string folder, const Options& options, int64_t total, int64_t val)
      : folder_(std::move(folder)), name_(options.name), vocab_size_(options.end_of_text ? 257 : 256) {
    const int64_t train = total - val;
    const int64_t count = (train + options.shard_tokens - 1) / options.shard_tokens;
    const size_t digits = std::max<size_t>(3, std::to_string(count - 1).size());
    for (int64_t i = 0; i < count; ++i) {
      const std::string number = count == 1 ? "" : fmt::format("_{:0{}}", i, digits);
      plan_.push_back(
          {name_ + number + ".bin", std::min(options.shard_tokens, train - i * options.shard_tokens)});
    }
    if (val > 0) plan_.push_back({"val.bin", val});
  }

  void append(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) ++counts_[static_cast<size_t>(token)];
    while (!tokens.empty()) {
      if (!writer_) writer_ = std::make_unique<ShardWriter>(folder_ + "/" + plan_[next_].name, vocab_size_);
      const int64_t room = plan_[next_].tokens - writer_->num_tokens();
      const auto part =
          tokens.first(static_cast<size_t>(std::min(room, static_cast<int64_t>(tokens.size()))));
      writer_->append(part);
      tokens = tokens.subspan(part.size());
      if (static_cast<int64_t>(part.size()) < room) continue;
      writer_->close();
      writer_.reset();
      ++next_;
    }
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Planned& shard : plan_) all.push_back(shard.name);
    return all;
  }

  /// Of the tokens' frequencies, in nats: the loss of a model that knows nothing but them.
  double unigram_entropy() const {
    double total = 0, entropy = 0;
    for (const int64_t count : counts_) total += static_cast<double>(count);
    for (const int64_t count : counts_)
      if (count > 0)
        entropy -= static_cast<double>(count) / total * std::log(static_cast<double>(count) / total);
    return entropy;
  }

 private:
  struct Planned {
    std::string name;
    int64_t tokens;
  };
  std::string folder_, name_;
  int64_t vocab_size_;
  std::vector<Planned> plan_;
  size_t next_ = 0;
  std::unique_ptr<ShardWriter> writer_;
  std::array<int64_t, 257> counts_{};
};

void tokenize_input(const Input& input, Shards& shards, int64_t& done, int64_t total) {
  const bool show = ::isatty(STDERR_FILENO) != 0;
  std::vector<char> buffer(kChunkBytes);
  std::vector<int32_t> tokens;
  for (int64_t left = input.size(); left > 0;) {
    const size_t count = input.read(buffer);
    if (count == 0 || static_cast<int64_t>(count) > left)
      throw DataError("{}: changed while it was read; run again when it is complete", input.path());
    tokens.resize(count);
    for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<unsigned char>(buffer[i]);
    shards.append(tokens);
    left -= static_cast<int64_t>(count);
    done += static_cast<int64_t>(count);
    if (show) fmt::print(stderr, "\r{:5.1f} % of {} tokens", 100.0 * done / total, total);
  }
}

/// Shards of earlier runs that the same names and patterns would pick up.
std::vector<std::string> earlier_shards(const Options& options) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(options.output)) {
    const std::string file = entry.path().filename().string();
    const bool numbered = file.rfind(options.name + "_", 0) == 0 && file.size() > 4 &&
                          file.compare(file.size() - 4, 4, ".bin") == 0;
    if (numbered || file == options.name + ".bin" || file == "val.bin") found.push_back(file);
  }
  return found;
}

/// Moves finished shards to their names; if that fails half way, those already moved are taken back.
void publish(const std::string& from, const std::string& to, const std::vector<std::string>& names) {
  std::vector<std::string> moved;
  for (const std::string& name : names) {
    const std::string target = to + "/" + name;
    if (::rename((from + "/" + name).c_str(), target.c_str()) == 0) {
      moved.push_back(target);
      continue;
    }
    const int error = errno;
    for (const std::string& path : moved) ::unlink(path.c_str());
    throw SystemError("{}: cannot be put in place: {}", target, errno_text(error));
  }
}

int tokenize(const Options& options) {
  if (options.name.empty() || options.name == "val" || !stays_inside(options.name) ||
      options.name.find('/') != std::string::npos)
    throw ConfigError("--name {}: must be a plain file name other than val", options.name);
  const bool made_folder = fs::create_directories(options.output);
  std::vector<std::string> earlier = earlier_shards(options);
  if (!earlier.empty() && !options.overwrite)
    throw ConfigError("{}/{}: exists already; remove it, choose another --output, or pass --overwrite",
                      options.output, earlier.front());
  try {
    // Never committed: a folder that vanishes with everything in it unless the shards have been moved out.
    const AtomicFolder unfinished(options.output + "/" + options.name);
    std::vector<Input> inputs;
    for (const std::string& path : options.inputs) inputs.emplace_back(path, unfinished.path());
    int64_t total = options.end_of_text ? static_cast<int64_t>(inputs.size()) - 1 : 0;
    for (const Input& input : inputs) total += input.size();
    if (total == 0) throw DataError("{}: empty; there is nothing to tokenise", inputs.front().path());
    const auto val = static_cast<int64_t>(std::floor(static_cast<double>(total) * options.val_fraction));
    if (options.val_fraction > 0 && val == 0)
      throw DataError(
          "{} tokens are too few for --val-fraction {}; raise it, or pass 0 for no validation shard", total,
          options.val_fraction);

    Shards shards(unfinished.path(), options, total, val);
    int64_t done = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (i > 0 && options.end_of_text) {
        shards.append(std::span(&kEndOfText, 1));
        ++done;
      }
      tokenize_input(inputs[i], shards, done, total);
    }
    if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r{:60}\r", "");
    const std::vector<std::string> names = shards.names();
    publish(unfinished.path(), options.output, names);
    for (const std::string& file : earlier)
      if (std::find(names.begin(), names.end(), file) == names.end()) fs::remove(options.output + "/" + file);
    for (const std::string& name : names) fmt::print("{}/{}\n", options.output, name);
    fmt::print("tokens: {} ({} for training, {} for validation), vocabulary {}\n", total, total - val, val,
               options.end_of_text ? 257 : 256);
    fmt::print("unigram entropy: {:.4f} nats/token\n", shards.unigram_entropy());
  } catch (...) {
    std::error_code ignored;
    if (made_folder) fs::remove(options.output, ignored);  // only if it is empty
    throw;
  }
  return kExitOk;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Text files to llm.c token shards, one token per byte (vocab_size 256).",
               "depthroute-tokenize");
  app.set_version_flag("--version", fmt::format("{} ({})", program_version(), program_commit()));
  app.add_option("input", options.inputs, "text files; - is standard input")->required();
  app.add_option("--output", options.output, "folder for the shards (made if it is not there)")->required();
  app.add_option("--name", options.name, "training shards are NAME.bin, or NAME_000.bin ...")
      ->capture_default_str();
  app.add_option("--shard-tokens", options.shard_tokens, "most tokens in a training shard")
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}))
      ->capture_default_str();
  app.add_option("--val-fraction", options.val_fraction,
                 "part of the text, from its end, that goes to val.bin")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  app.add_flag("--end-of-text", options.end_of_text, "token 256 between input files (vocab_size 257)");
  app.add_flag("--overwrite", options.overwrite, "replace the shards of an earlier run");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "depthroute-tokenize: {}; see --help\n", error.what());
    return kExitBadInput;
  }
  struct sigaction action = {};
  action.sa_handler = request_stop;  // without SA_RESTART: waiting for standard input ends too
  for (const int number : {SIGINT, SIGTERM}) ::sigaction(number, &action, nullptr);
  return tokenize(options);
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  try {
    return depthroute::run(argc, argv);
  } catch (const depthroute::InputError& error) {
    fmt::print(stderr, "depthroute-tokenize: {}\n", error.what());
    return depthroute::kExitBadInput;
  } catch (const std::exception& error) {
    fmt::print(stderr, "depthroute-tokenize: {}\n", error.what());
    return depthroute::kExitFailure;
  }
}
