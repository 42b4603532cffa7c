#include "eval/run.h"

#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/standard_streams.h"
#include "eval/analysis/effects.h"
#include "eval/progress.h"
#include "eval/results/output_lock.h"
#include "eval/results/report.h"

namespace depthroute {
namespace {

/// Hashing files and drawing bootstraps is rank 0's alone: how long the others wait for it, while
/// in the passes themselves they wait for one pass at most.
constexpr double kRank0Seconds = 3600;

/// Runs `body` on rank 0 while the others wait.
template <typename Body>
void on_rank_0(World& world, const Body& body) {
  const double timeout = world.timeout();
  world.set_timeout(std::max(timeout, kRank0Seconds));
  world.together([&] {
    if (world.is_rank_0()) body();
  });
  world.set_timeout(timeout);
}

/// rank 0's number, everywhere.
int broadcast_status(World& world, int status) { return std::stoi(world.broadcast(std::to_string(status))); }

/// Takes the lock at once if that needs no new folder: who is refused should not have to load a model first.
/// Folders are made only after everything else has been checked.
void lock_early(std::optional<OutputLock>& lock, const std::string& path) {
  if (exists(folder_of(path))) lock.emplace(path);
}

/// Opens the engine on every process and sees to it that all work on the same.
void load_everywhere(World& world, const Job& job, std::optional<Engine>& engine) {
  world.require_equal("the configuration (its hash)", config_hash(job.config));
  world.require_equal("the program's commit", program_commit());
  world.require_equal("data.shards", job.tokens.outline());
  world.together([&] {
    const Device device = resolve_device(job.config.device);
    select_device(device, world.local_rank());
    make_independent_of_threads(true);  // one process with many threads must measure what many with few do
    engine.emplace(job, device);
    engine->load(job);
  });
}

/// Adds to rank 0's `from` what all processes compute with, which must go together.
void add_engine(World& world, const Engine& engine, Provenance& from) {
  from.parameters_before = engine.parameters();
  world.require_equal("the checksum of the parameters (model.from)", from.parameters_before);
  const std::vector<std::string> devices = world.gather(describe(engine.model.device()));
  const std::vector<std::string> precisions = world.gather(to_string(engine.model.final_hidden().dtype));
  world.together([&] {
    for (size_t process = 0; process < devices.size(); ++process) {
      from.add_device(devices[process]);
      if (precisions[process] != precisions[0])
        throw ConfigError("rank 0 computes in {} ({}), rank {} in {} ({}): set device or precision",
                          precisions[0], devices[0], process, precisions[process], devices[process]);
    }
    if (world.is_rank_0()) from.precision = precisions[0];
  });
}

void print_start(const Job& job, const Provenance& from, int processes) {
  print_text(stdout, fmt::format("Model: {}\n  {}\nDevice: {}{}\n\n", job.source.folder.path(),
                                 job.source.describe(), fmt::join(from.devices, "; "),
                                 processes > 1 ? fmt::format(", {} processes", processes) : ""));
}

/// Measures `batches` with all processes; `sink` is called on the first. Afterwards `from` has what the
/// parameters are then.
void measure_batches(World& world, const Job& job, Engine& engine, const BatchRange& batches,
                     Provenance& from, const RecordSink& sink) {
  const std::vector<Comparison> comparisons = job.comparisons();
  {
    Progress progress;
    measure(world, engine.evaluator, engine.stream, {job.tokens, batches, comparisons, job.stores_weights()},
            sink, [&](double done, double total) { progress.report(done, total); });
  }
  for (const std::string& checksum : world.gather(engine.parameters())) from.add_parameters_after(checksum);
}

/// Room for all that will be measured.
Evaluation room_for(const Job& job) {
  Evaluation evaluation;
  evaluation.seq_len = job.config.data.seq_len;
  evaluation.outcomes.resize(job.comparisons().size());
  evaluation.reserve(job.config.data.sequences);
  return evaluation;
}

/// The results as they grow, batch by batch. All memory they and their statistics need is taken first.
struct ResultsBuilder {
  BootstrapMemory bootstrap;
  Evaluation evaluation;
  RoutingTrace trace;
  ResultsFile file;

  explicit ResultsBuilder(const Job& job)
      : bootstrap(job.config.statistics.bootstrap, job.config.data.sequences,
                  analyzed_quantities(static_cast<int64_t>(job.comparisons().size()))),
        evaluation(room_for(job)),
        trace(job.plan),
        file(job.config.output, job.plan, job.config.data.sequences, job.config.data.seq_len,
             job.stores_weights()) {}
  void add(const BatchRecord& record) {
    evaluation.append(record);
    trace.add(record.routing);
    file.write_weights(record);
  }
};

void distribute(Evaluation& evaluation, Results& results) {
  size_t next = 0;
  for (const Cell& cell : results.cells)
    results.cell_outcomes.push_back(cell.runs() ? std::move(evaluation.outcomes[next++]) : Outcome{});
  for (size_t i = 0; i < results.known_answers.size(); ++i)
    results.known_answer_outcomes.push_back(std::move(evaluation.outcomes[next++]));
  evaluation.outcomes.clear();
  results.evaluation = std::move(evaluation);
}

int fail_known_answers(const CommandLine& command, const std::string& where) {
  print_text(stderr, fmt::format("{}: error: a known answer failed ({}\n", command.program, where));
  return kExitFailure;
}

/// Statistics, the file in its place, the table on the terminal.
int finish(const CommandLine& command, const Job& job, const Provenance& from, ResultsBuilder& builder) {
  Results results;
  results.provenance = from;
  results.plan = &job.plan;
  results.cells = job.cells;
  results.known_answers = job.known_answers;
  results.trace = &builder.trace;
  distribute(builder.evaluation, results);
  if (job.source.wrapped()) results.wrapper = check_wrapper(builder.trace, job.source.recency_bias);
  const StatisticsConfig& statistics = job.config.statistics;
  analyze(results, {statistics.bootstrap, statistics.alpha, statistics.seed}, builder.bootstrap);
  builder.file.write(results);
  builder.file.commit();
  print_text(stdout, results_report(results, statistics.alpha, job.config.output));
  if (results.known_answers_pass()) return kExitOk;
  return fail_known_answers(
      command, fmt::format("see the table above): the numbers in {} cannot be trusted", job.config.output));
}

/// The known answers on the sequences of one part.
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
  return fail_known_answers(
      command, fmt::format("identity or parameters): the numbers in {} cannot be trusted; remove it "
                           "to measure this part again",
                           path));
}

std::string part_option(const PartNumber& number) {
  return fmt::format("--part {}/{}", number.index, number.count);
}

/// The part that is there already, if it is whole. ConfigError if it belongs to another evaluation;
/// AccessError, or DataError if it is no file, where measuring it again would not help.
std::unique_ptr<PartReader> finished_part(const std::string& path, const Job& job, const BatchRange& batches,
                                          const Provenance& from) {
  if (!exists(path)) return nullptr;
  const RegularFile readable(path);
  std::unique_ptr<PartReader> part;
  try {
    part = std::make_unique<PartReader>(path);
    if (const std::string difference = part->difference(from); !difference.empty())
      throw ConfigError("{} was measured {}: remove it, or set another output", path, difference);
    part->read(job.layout(batches), [](BatchRecord&&) {});
    return part;
  } catch (const AccessError&) {
    throw;
  } catch (const DataError& error) {
    print_text(stderr, fmt::format("{}; measured again\n", error.what()));
    return nullptr;
  }
}

/// Says of what is wrong with a part what to do about it; but a part that cannot be read may be whole.
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

/// Every part, opened. DataError for what is missing or of another evaluation.
std::vector<PartReader> open_parts(const Job& job, int64_t count, const Provenance& from) {
  std::vector<PartReader> parts;
  std::vector<int64_t> missing;
  for (int64_t index = 0; index < count; ++index)
    if (!exists(part_path(job.config.output, {index, count}))) missing.push_back(index);
  if (!missing.empty())
    throw DataError("{}: {} of {} parts are not there: {}; measure each with --part K/{}",
                    parts_folder(job.config.output), missing.size(), count, fmt::join(missing, ", "), count);
  for (int64_t index = 0; index < count; ++index)
    naming_remedy({index, count}, [&] {
      const PartReader& part = parts.emplace_back(part_path(job.config.output, {index, count}));
      if (const std::string difference = part.difference(from); !difference.empty())
        throw DataError("{} was measured {}", part.path(), difference);
    });
  return parts;
}

}  // namespace

void check_part_count(const Job& job, int64_t count) {
  const BatchRange all = job.batches();
  if (count > all.count)
    throw ConfigError(
        "{} parts are more than there are batches: {} sequences in batches of {} (micro_batch) make {} parts "
        "at most",
        count, all.sequences, all.micro_batch, all.count);
}

int measure_whole(World& world, const CommandLine& command, const Job& job) {
  std::optional<OutputLock> lock;
  Provenance from;
  on_rank_0(world, [&] {
    lock_early(lock, job.config.output);
    from = job.provenance(command);
  });
  std::optional<Engine> engine;
  load_everywhere(world, job, engine);
  add_engine(world, *engine, from);
  std::optional<ResultsBuilder> builder;
  world.together([&] {
    if (!world.is_rank_0()) return;
    if (!lock) lock.emplace(job.config.output);
    builder.emplace(job);
    print_start(job, from, world.size());
  });
  measure_batches(world, job, *engine, job.batches(), from,
                  [&](BatchRecord&& record) { builder->add(record); });
  int status = kExitOk;
  on_rank_0(world, [&] { status = finish(command, job, from, *builder); });
  return broadcast_status(world, status);
}

int measure_part(World& world, const CommandLine& command, const Job& job, const PartNumber& number) {
  const BatchRange batches = job.batches().part(number.index, number.count);
  const std::string path = part_path(job.config.output, number);
  std::optional<OutputLock> lock;
  Provenance from;
  bool done = false;
  int status = kExitOk;
  on_rank_0(world, [&] {
    lock_early(lock, path);
    from = job.provenance(command);
    const auto part = finished_part(path, job, batches, from);
    if (!part) return;
    done = true;
    print_text(stdout,
               fmt::format("{}: nothing to do, part {} of {} is there\n", path, number.index, number.count));
    status = part_status(command, path, part->known_answers_passed());
  });
  if (broadcast_status(world, done)) return broadcast_status(world, status);

  std::optional<Engine> engine;
  load_everywhere(world, job, engine);
  add_engine(world, *engine, from);
  PartKnownAnswers known_answers(job.known_answers);
  std::unique_ptr<PartWriter> writer;
  world.together([&] {
    if (!world.is_rank_0()) return;
    if (!lock) lock.emplace(path);
    print_start(job, from, world.size());
    writer = std::make_unique<PartWriter>(path, job.layout(batches));
  });
  measure_batches(world, job, *engine, batches, from, [&](BatchRecord&& record) {
    known_answers.add(record);
    writer->write(record);
  });
  world.together([&] {
    if (!world.is_rank_0()) return;
    const bool passed = known_answers.passed() && from.parameters_before == from.parameters_after;
    writer->commit(number, from, passed);
    print_text(stdout,
               fmt::format("{}: part {} of {}, sequences {} to {}\n", path, number.index, number.count,
                           batches.span().first, batches.span().first + batches.span().size - 1));
    status = part_status(command, path, passed);
  });
  return broadcast_status(world, status);
}

int merge_parts(const CommandLine& command, const Job& job, int64_t count, bool check_only) {
  Provenance from = job.provenance(command);
  const std::vector<PartReader> parts = open_parts(job, count, from);
  for (const PartReader& part : parts) part.add_to(from);
  if (check_only) {
    print_text(stdout, fmt::format("All {} parts in {} are there\n", count, parts_folder(job.config.output)));
    return kExitOk;
  }
  const OutputLock lock(job.config.output);
  ResultsBuilder builder(job);
  for (int64_t index = 0; index < count; ++index) {
    naming_remedy({index, count}, [&] {
      parts[index].read(job.layout(job.batches().part(index, count)),
                        [&](BatchRecord&& record) { builder.add(record); });
    });
  }
  const int status = finish(command, job, from, builder);
  print_text(stdout, fmt::format("Made of {} parts; {} is not needed any more\n", count,
                                 parts_folder(job.config.output)));
  return status;
}

}  // namespace depthroute
