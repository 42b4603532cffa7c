#include "eval/run.h"

#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/standard_streams.h"
#include "eval/analysis/effects.h"
#include "eval/engine.h"
#include "eval/progress.h"
#include "eval/results/output_lock.h"
#include "eval/results/report.h"
#include "eval/results/results_file.h"

namespace depthroute {
namespace {

/// How long other ranks wait while rank 0 hashes files and bootstraps. While measuring, no rank waits for
/// more than one forward pass of another.
constexpr double kRank0Seconds = 3600;

/// An evaluation on all ranks, of everything or a part: the steps around measuring.
class Run {
 public:
  /// Rank 0 locks `output`, if that needs no new folder, and hashes what will be read. A second run is thus
  /// refused before it loads a model; folders are made only after everything else has been checked.
  Run(World& world, const CommandLine& command, const EvalInput& input, const std::string& output);

  /// Loads the model. Afterwards all ranks compute with the same parameters in the same precision.
  void load();
  /// Holds the lock on the output, making its folder. Rank 0, before anything is written.
  void claim_output();
  /// Prints the model and the devices. Rank 0, when all memory has been taken.
  void announce() const;
  /// Measures `batches` on all ranks; `sink` gets their records, in order, on rank 0.
  void measure(const BatchRange& batches, const RecordSink& sink);

  /// Complete on rank 0 after measure().
  const Provenance& provenance() const { return from_; }

 private:
  void require_one_precision();

  World& world_;
  const EvalInput& input_;
  const std::string output_;
  std::optional<OutputLock> lock_;
  Provenance from_;
  std::unique_ptr<Engine> engine_;
};

Run::Run(World& world, const CommandLine& command, const EvalInput& input, const std::string& output)
    : world_(world), input_(input), output_(output) {
  const LongWait wait(world, kRank0Seconds);
  if (world.is_rank_0()) {
    if (exists(folder_of(output))) lock_.emplace(output);
    from_ = input.provenance(command);
  }
  world.barrier();
}

void Run::load() {
  world_.require_equal("the configuration (its hash)", config_hash(input_.config));
  world_.require_equal("the program's commit", program_commit());
  world_.require_equal("data.shards", input_.tokens.outline());
  const Device device = resolve_device(input_.config.device);
  select_device(device, world_.local_rank());
  make_independent_of_threads(true);  // one process with many threads must measure what many with few do
  engine_ = std::make_unique<Engine>(input_, device);
  engine_->load(input_);
  from_.parameters_before = engine_->parameters();
  world_.require_equal("the checksum of the parameters (model.from)", from_.parameters_before);
  require_one_precision();
}

void Run::require_one_precision() {
  const std::vector<std::string> devices = world_.gather(describe(engine_->model.device()));
  const std::vector<std::string> precisions = world_.gather(to_string(engine_->model.final_hidden().dtype));
  for (size_t rank = 0; rank < devices.size(); ++rank) {
    from_.add_device(devices[rank]);
    if (precisions[rank] != precisions[0])
      throw ConfigError("rank 0 computes in {} ({}), rank {} in {} ({}): set device or precision",
                        precisions[0], devices[0], rank, precisions[rank], devices[rank]);
  }
  if (world_.is_rank_0()) from_.precision = precisions[0];
}

void Run::announce() const {
  print_text(stdout, fmt::format("Model: {}\n  {}\nDevice: {}{}\n\n", input_.model.folder.path(),
                                 input_.model.describe(), fmt::join(from_.devices, "; "),
                                 world_.size() > 1 ? fmt::format(", {} ranks", world_.size()) : ""));
}

void Run::claim_output() {
  if (!lock_) lock_.emplace(output_);
}

void Run::measure(const BatchRange& batches, const RecordSink& sink) {
  const std::vector<Comparison> comparisons = input_.comparisons();
  {
    Progress progress;
    depthroute::measure(world_, engine_->evaluator, engine_->stream,
                        {input_.tokens, batches, comparisons, input_.stores_weights()}, sink,
                        [&](double done, double total) { progress.report(done, total); });
  }
  for (const std::string& checksum : world_.gather(engine_->parameters()))
    from_.add_parameters_after(checksum);
}

/// Takes the memory for all that will be measured.
Evaluation reserve_evaluation(const EvalInput& input) {
  Evaluation evaluation;
  evaluation.seq_len = input.config.data.seq_len;
  evaluation.outcomes.resize(input.comparisons().size());
  evaluation.reserve(input.config.data.sequences);
  return evaluation;
}

/// Builds the results from the records of batches. The constructor takes all memory that they and their
/// statistics need.
class ResultsBuilder {
 public:
  explicit ResultsBuilder(const EvalInput& input)
      : input_(input),
        bootstrap_(input.config.statistics.bootstrap, input.config.data.sequences,
                   analyzed_quantities(static_cast<int64_t>(input.comparisons().size()))),
        evaluation_(reserve_evaluation(input)),
        trace_(input.plan),
        file_(input.config.output, input.plan, input.config.data.sequences, input.config.data.seq_len,
              input.stores_weights()) {}

  /// Adds the next batch.
  void add(const BatchRecord& record) {
    evaluation_.append(record);
    trace_.add(record.routing);
    file_.write_weights(record);
  }

  /// Computes statistics, puts the file in its place and prints the table. Returns the exit status: a known
  /// answer that came out wrong is a failure.
  int finish(const CommandLine& command, const Provenance& from);

 private:
  Results results(const Provenance& from);

  const EvalInput& input_;
  BootstrapMemory bootstrap_;
  Evaluation evaluation_;
  RoutingTrace trace_;
  ResultsFile file_;
};

Results ResultsBuilder::results(const Provenance& from) {
  Results results;
  results.provenance = from;
  results.plan = &input_.plan;
  results.trace = &trace_;
  results.cells = input_.cells;
  results.known_answers = input_.known_answers;
  size_t next = 0;  // outcomes are those of comparisons()
  for (const Cell& cell : results.cells)
    results.cell_outcomes.push_back(cell.runs() ? std::move(evaluation_.outcomes[next++]) : Outcome{});
  for (size_t i = 0; i < results.known_answers.size(); ++i)
    results.known_answer_outcomes.push_back(std::move(evaluation_.outcomes[next++]));
  evaluation_.outcomes.clear();
  results.evaluation = std::move(evaluation_);
  if (input_.model.wrapped()) results.wrapper = check_wrapper(trace_, input_.model.recency_bias);
  const StatisticsConfig& statistics = input_.config.statistics;
  analyze(results, {statistics.bootstrap, statistics.alpha, statistics.seed}, bootstrap_);
  return results;
}

int report_wrong_answer(const CommandLine& command, const std::string& where) {
  print_text(stderr, fmt::format("{}: error: a known answer came out wrong ({}\n", command.program, where));
  return kExitFailure;
}

int ResultsBuilder::finish(const CommandLine& command, const Provenance& from) {
  const Results all = results(from);
  file_.write(all);
  file_.commit();
  const std::string& output = input_.config.output;
  print_text(stdout, results_report(all, input_.config.statistics.alpha, output));
  if (all.known_answers_pass()) return kExitOk;
  return report_wrong_answer(
      command, fmt::format("see the table above): the numbers in {} cannot be trusted", output));
}

/// Whether the known answers came out right on the sequences of one part.
class PartKnownAnswers {
 public:
  explicit PartKnownAnswers(const std::vector<KnownAnswer>& known_answers) : known_answers_(known_answers) {}
  void add(const BatchRecord& record) {
    const Outcome* outcome = &record.outcomes[record.outcomes.size() - known_answers_.size()];
    for (const KnownAnswer& known_answer : known_answers_)
      passed_ = passed_ && known_answer.passes((outcome++)->largest_change);
  }
  bool passed() const { return passed_; }

 private:
  const std::vector<KnownAnswer>& known_answers_;
  bool passed_ = true;
};

int part_status(const CommandLine& command, const std::string& path, bool known_answers_passed) {
  if (known_answers_passed) return kExitOk;
  return report_wrong_answer(
      command,
      fmt::format("identity or parameters): the numbers in {} cannot be trusted; remove it to measure "
                  "this part again",
                  path));
}

std::string part_option(const PartNumber& number) {
  return fmt::format("--part {}/{}", number.index, number.count);
}

/// Returns the part at `path`, if it is there and whole. ConfigError if it belongs to another evaluation;
/// AccessError, or DataError if it is no regular file: measuring it again would not help.
std::unique_ptr<PartReader> finished_part(const std::string& path, const EvalInput& input,
                                          const BatchRange& batches, const Provenance& from) {
  if (!exists(path)) return nullptr;
  const RegularFile readable(path);
  std::unique_ptr<PartReader> part;
  try {
    part = std::make_unique<PartReader>(path);
    if (const std::string difference = part->difference(from); !difference.empty())
      throw ConfigError("{} was measured {}: remove it, or set another output", path, difference);
    part->read(input.layout(batches), [](BatchRecord&&) {});
    return part;
  } catch (const AccessError&) {
    throw;
  } catch (const DataError& error) {
    print_text(stderr, fmt::format("{}; measured again\n", error.what()));
    return nullptr;
  }
}

/// Appends the remedy to a DataError about a part. A part that cannot be read may be whole, so AccessError
/// passes unchanged.
template <typename Body>
void naming_remedy(const PartNumber& number, const Body& body) {
  try {
    body();
  } catch (const AccessError&) {
    throw;
  } catch (const DataError& error) {
    throw DataError("{}; remove it and measure it again with {}", error.what(), part_option(number));
  }
}

/// Opens every part. DataError if any is missing or belongs to another evaluation.
std::vector<PartReader> open_parts(const EvalInput& input, int64_t count, const Provenance& from) {
  const std::string& output = input.config.output;
  std::vector<PartReader> parts;
  std::vector<int64_t> missing;
  for (int64_t index = 0; index < count; ++index)
    if (!exists(part_path(output, {index, count}))) missing.push_back(index);
  if (!missing.empty())
    throw DataError("{}: {} of {} parts are missing: {}; measure each with --part K/{}", parts_folder(output),
                    missing.size(), count, fmt::join(missing, ", "), count);
  for (int64_t index = 0; index < count; ++index)
    naming_remedy({index, count}, [&] {
      const PartReader& part = parts.emplace_back(part_path(output, {index, count}));
      if (const std::string difference = part.difference(from); !difference.empty())
        throw DataError("{} was measured {}", part.path(), difference);
    });
  return parts;
}

}  // namespace

void check_part_count(const EvalInput& input, int64_t count) {
  const BatchRange all = input.batches();
  if (count > all.count)
    throw ConfigError(
        "{} parts are too many: {} sequences in batches of {} (micro_batch) make {} parts at most", count,
        all.sequences, all.micro_batch, all.count);
}

int measure_whole(World& world, const CommandLine& command, const EvalInput& input) {
  Run run(world, command, input, input.config.output);
  run.load();
  std::optional<ResultsBuilder> builder;
  if (world.is_rank_0()) {
    run.claim_output();
    builder.emplace(input);
    run.announce();
  }
  run.measure(input.batches(), [&](BatchRecord&& record) { builder->add(record); });
  const LongWait wait(world, kRank0Seconds);
  const int status = builder ? builder->finish(command, run.provenance()) : kExitOk;
  return narrow<int>(world.broadcast(status));
}

int measure_part(World& world, const CommandLine& command, const EvalInput& input, const PartNumber& number) {
  constexpr int kNotMeasured = -1;
  const BatchRange batches = input.batches().part(number.index, number.count);
  const std::string path = part_path(input.config.output, number);
  Run run(world, command, input, path);
  int status = kNotMeasured;
  if (world.is_rank_0()) {
    if (const auto part = finished_part(path, input, batches, run.provenance())) {
      print_text(stdout, fmt::format("{}: nothing to do, part {} of {} is there\n", path, number.index,
                                     number.count));
      status = part_status(command, path, part->known_answers_passed());
    }
  }
  status = narrow<int>(world.broadcast(status));
  if (status != kNotMeasured) return status;

  run.load();
  PartKnownAnswers known_answers(input.known_answers);
  std::optional<PartWriter> writer;
  if (world.is_rank_0()) {
    run.claim_output();
    writer.emplace(path, input.layout(batches));
    run.announce();
  }
  run.measure(batches, [&](BatchRecord&& record) {
    known_answers.add(record);
    writer->write(record);
  });
  if (writer) {
    const Provenance& from = run.provenance();
    const bool passed = known_answers.passed() && from.parameters_before == from.parameters_after;
    writer->commit(number, from, passed);
    print_text(stdout,
               fmt::format("{}: part {} of {}, sequences {} to {}\n", path, number.index, number.count,
                           batches.span().first, batches.span().first + batches.span().size - 1));
    status = part_status(command, path, passed);
  }
  return narrow<int>(world.broadcast(status));
}

int merge_parts(const CommandLine& command, const EvalInput& input, int64_t count, bool check_only) {
  Provenance from = input.provenance(command);
  const std::vector<PartReader> parts = open_parts(input, count, from);
  for (const PartReader& part : parts) part.add_to(from);
  const std::string folder = parts_folder(input.config.output);
  if (check_only) {
    print_text(stdout, fmt::format("All {} parts in {} are there\n", count, folder));
    return kExitOk;
  }
  const OutputLock lock(input.config.output);
  ResultsBuilder builder(input);
  for (int64_t index = 0; index < count; ++index) {
    naming_remedy({index, count}, [&] {
      parts[index].read(input.layout(input.batches().part(index, count)),
                        [&](BatchRecord&& record) { builder.add(record); });
    });
  }
  const int status = builder.finish(command, from);
  print_text(stdout, fmt::format("Merged {} parts; {} is no longer needed\n", count, folder));
  return status;
}

}  // namespace depthroute
