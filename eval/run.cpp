#include "eval/run.h"

#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "eval/analysis/effects.h"
#include "eval/progress.h"
#include "eval/results/output_lock.h"
#include "eval/results/report.h"

namespace depthroute {
namespace {

/// Hashing files and drawing bootstraps is the first process's alone: how long the others wait for it, while
/// in the passes themselves they wait for one pass at most.
constexpr double kAloneSeconds = 3600;

/// Runs `body` on the first process while the others wait.
template <typename Body>
void alone(World& world, const Body& body) {
  const double timeout = world.timeout();
  world.set_timeout(std::max(timeout, kAloneSeconds));
  world.together([&] {
    if (world.is_first()) body();
  });
  world.set_timeout(timeout);
}

/// The first process's number, everywhere.
int agreed(World& world, int status) { return std::stoi(world.broadcast(std::to_string(status))); }

/// Takes the lock at once if that needs no new folder: who is refused should not have to load a model first.
/// Folders are made only after everything else has been checked.
void lock_early(std::optional<OutputLock>& lock, const std::string& path) {
  if (exists(folder_of(path))) lock.emplace(path);
}

/// Opens the machinery on every process and sees to it that all work on the same.
void load_everywhere(World& world, const Job& job, std::optional<Machinery>& machinery) {
  world.require_equal("the configuration (its hash)", config_hash(job.config));
  world.require_equal("the program's commit", program_commit());
  world.require_equal("data.shards", job.tokens.outline());
  world.together([&] {
    const Device device = resolve_device(job.config.device);
    select_device(device, world.local_rank());
    make_independent_of_threads(true);  // one process with many threads must measure what many with few do
    machinery.emplace(job, device);
    machinery->load(job);
  });
}

/// Adds to the first process's `from` what all processes compute with, which must go together.
void add_machinery(World& world, const Machinery& machinery, Provenance& from) {
  from.parameters_before = machinery.parameters();
  world.require_equal("the checksum of the parameters (model.from)", from.parameters_before);
  const std::vector<std::string> devices = world.gather(describe(machinery.model.device()));
  const std::vector<std::string> precisions = world.gather(to_string(machinery.model.final_hidden().dtype));
  world.together([&] {
    for (size_t process = 0; process < devices.size(); ++process) {
      from.add_device(devices[process]);
      if (precisions[process] != precisions[0])
        throw ConfigError("process 0 computes in {} ({}), process {} in {} ({}): set device or precision",
                          precisions[0], devices[0], process, precisions[process], devices[process]);
    }
    if (world.is_first()) from.precision = precisions[0];
  });
}

void print_start(const Job& job, const Provenance& from, int processes) {
  say(stdout, fmt::format("Model: {}\n  {}\nDevice: {}{}\n\n", job.source.folder.path(),
                          job.source.describe(), fmt::join(from.devices, "; "),
                          processes > 1 ? fmt::format(", {} processes", processes) : ""));
}

/// Measures `batches` with all processes; `sink` is called on the first. Afterwards `from` has what the
/// parameters are then.
void measure_batches(World& world, const Job& job, Machinery& machinery, const BatchRange& batches,
                     Provenance& from, const RecordSink& sink) {
  const std::vector<Comparison> comparisons = job.comparisons();
  {
    Progress progress;
    measure(world, machinery.evaluator, machinery.stream,
            {job.tokens, batches, comparisons, job.stores_weights()}, sink,
            [&](double done, double total) { progress.report(done, total); });
  }
  for (const std::string& checksum : world.gather(machinery.parameters()))
    from.add_parameters_after(checksum);
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
struct Growing {
  BootstrapMemory bootstrap;
  Evaluation evaluation;
  RoutingTrace trace;
  ResultsFile file;

  explicit Growing(const Job& job)
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
  for (size_t i = 0; i < results.controls.size(); ++i)
    results.control_outcomes.push_back(std::move(evaluation.outcomes[next++]));
  evaluation.outcomes.clear();
  results.evaluation = std::move(evaluation);
}

int fail_controls(const CommandLine& command, const std::string& where) {
  say(stderr, fmt::format("{}: error: a control failed ({}\n", command.program, where));
  return kExitFailure;
}

/// Statistics, the file in its place, the table on the terminal.
int finish(const CommandLine& command, const Job& job, const Provenance& from, Growing& grown) {
  Results results;
  results.provenance = from;
  results.plan = &job.plan;
  results.cells = job.cells;
  results.controls = job.controls;
  results.trace = &grown.trace;
  distribute(grown.evaluation, results);
  if (job.source.wrapped()) results.wrapper = check_wrapper(grown.trace, job.source.recency_bias);
  const StatisticsConfig& statistics = job.config.statistics;
  analyze(results, {statistics.bootstrap, statistics.alpha, statistics.seed}, grown.bootstrap);
  grown.file.write(results);
  grown.file.commit();
  say(stdout, results_report(results, statistics.alpha, job.config.output));
  if (results.controls_pass()) return kExitOk;
  return fail_controls(
      command, fmt::format("see the table above): the numbers in {} cannot be trusted", job.config.output));
}

/// The controls on the sequences of one part.
class PartControls {
 public:
  explicit PartControls(const std::vector<Control>& controls) : controls_(controls) {}
  void add(const BatchRecord& record) {
    const Outcome* outcome = &record.outcomes[record.outcomes.size() - controls_.size()];
    for (const Control& control : controls_) passed_ = passed_ && control.passes((outcome++)->largest_change);
  }
  bool passed() const { return passed_; }

 private:
  const std::vector<Control>& controls_;
  bool passed_ = true;
};

int part_status(const CommandLine& command, const std::string& path, bool controls_passed) {
  if (controls_passed) return kExitOk;
  return fail_controls(command,
                       fmt::format("identity or parameters): the numbers in {} cannot be trusted; remove it "
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
    say(stderr, fmt::format("{}; measured again\n", error.what()));
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
  alone(world, [&] {
    lock_early(lock, job.config.output);
    from = job.provenance(command);
  });
  std::optional<Machinery> machinery;
  load_everywhere(world, job, machinery);
  add_machinery(world, *machinery, from);
  std::optional<Growing> growing;
  world.together([&] {
    if (!world.is_first()) return;
    if (!lock) lock.emplace(job.config.output);
    growing.emplace(job);
    print_start(job, from, world.size());
  });
  measure_batches(world, job, *machinery, job.batches(), from,
                  [&](BatchRecord&& record) { growing->add(record); });
  int status = kExitOk;
  alone(world, [&] { status = finish(command, job, from, *growing); });
  return agreed(world, status);
}

int measure_part(World& world, const CommandLine& command, const Job& job, const PartNumber& number) {
  const BatchRange batches = job.batches().part(number.index, number.count);
  const std::string path = part_path(job.config.output, number);
  std::optional<OutputLock> lock;
  Provenance from;
  bool done = false;
  int status = kExitOk;
  alone(world, [&] {
    lock_early(lock, path);
    from = job.provenance(command);
    const auto part = finished_part(path, job, batches, from);
    if (!part) return;
    done = true;
    say(stdout, fmt::format("{}: nothing to do, part {} of {} is there\n", path, number.index, number.count));
    status = part_status(command, path, part->controls_passed());
  });
  if (agreed(world, done)) return agreed(world, status);

  std::optional<Machinery> machinery;
  load_everywhere(world, job, machinery);
  add_machinery(world, *machinery, from);
  PartControls controls(job.controls);
  std::unique_ptr<PartWriter> writer;
  world.together([&] {
    if (!world.is_first()) return;
    if (!lock) lock.emplace(path);
    print_start(job, from, world.size());
    writer = std::make_unique<PartWriter>(path, job.layout(batches));
  });
  measure_batches(world, job, *machinery, batches, from, [&](BatchRecord&& record) {
    controls.add(record);
    writer->write(record);
  });
  world.together([&] {
    if (!world.is_first()) return;
    const bool passed = controls.passed() && from.parameters_before == from.parameters_after;
    writer->commit(number, from, passed);
    say(stdout, fmt::format("{}: part {} of {}, sequences {} to {}\n", path, number.index, number.count,
                            batches.span().first, batches.span().first + batches.span().size - 1));
    status = part_status(command, path, passed);
  });
  return agreed(world, status);
}

int merge_parts(const CommandLine& command, const Job& job, int64_t count, bool check_only) {
  Provenance from = job.provenance(command);
  const std::vector<PartReader> parts = open_parts(job, count, from);
  for (const PartReader& part : parts) part.add_to(from);
  if (check_only) {
    say(stdout, fmt::format("All {} parts in {} are there\n", count, parts_folder(job.config.output)));
    return kExitOk;
  }
  const OutputLock lock(job.config.output);
  Growing growing(job);
  for (int64_t index = 0; index < count; ++index) {
    naming_remedy({index, count}, [&] {
      parts[index].read(job.layout(job.batches().part(index, count)),
                        [&](BatchRecord&& record) { growing.add(record); });
    });
  }
  const int status = finish(command, job, from, growing);
  say(stdout,
      fmt::format("Made of {} parts; {} is not needed any more\n", count, parts_folder(job.config.output)));
  return status;
}

}  // namespace depthroute
