#include "train/checkpoint/saver.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <thread>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/manifest.h"
#include "train/checkpoint/device_copy.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {

namespace fs = std::filesystem;

namespace {

/// Host memory taken once.
class HostMemory {
 public:
  HostMemory() = default;
  ~HostMemory() {
    if (block_) device_free(Device::cpu, block_, bytes_);
  }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  void take(int64_t elements) {
    bytes_ = elements * static_cast<int64_t>(sizeof(float));
    block_ = device_allocate(Device::cpu, bytes_);
    std::memset(block_, 0, static_cast<size_t>(bytes_));  // pages are taken when they are first written
  }
  Tensor part(int64_t begin, int64_t end) const {
    return host_tensor(static_cast<float*>(block_) + begin, {end - begin});
  }

 private:
  void* block_ = nullptr;
  int64_t bytes_ = 0;
};

/// Copies within host memory in chunks, shared by all threads that call help().
class SharedCopy {
 public:
  struct Piece {
    const void* from;
    void* to;
    int64_t bytes;
  };

  void begin(const std::vector<Piece>& pieces) {
    chunks_.clear();
    for (const Piece& piece : pieces)
      for (int64_t at = 0; at < piece.bytes; at += kChunk)
        chunks_.push_back({static_cast<const std::byte*>(piece.from) + at,
                           static_cast<std::byte*>(piece.to) + at, std::min(kChunk, piece.bytes - at)});
    next_ = 0;
    left_ = chunks_.size();
  }
  /// Copies until no chunk is left to begin, or `stop`.
  void help(const std::atomic<bool>& stop) {
    for (size_t i = next_++; i < chunks_.size() && !stop; i = next_++) {
      std::memcpy(chunks_[i].to, chunks_[i].from, static_cast<size_t>(chunks_[i].bytes));
      if (--left_ == 0) left_.notify_all();
    }
  }
  bool nothing_to_begin() const { return next_ >= chunks_.size(); }
  void wait() const {
    for (size_t left = left_; left != 0; left = left_) left_.wait(left);
  }

 private:
  static constexpr int64_t kChunk = int64_t{4} << 20;
  std::vector<Piece> chunks_;
  std::atomic<size_t> next_ = 0, left_ = 0;
};

/// Training goes first: without this the writer would take half of a core from threads that wait for each
/// other at the end of every loop. Where all cores compute it still gets a tenth of one, so that saving ends.
/// On Linux this affects only the calling thread.
void let_training_go_first() {
  constexpr int kNice = 10;
  (void)setpriority(PRIO_PROCESS, 0, kNice);
}

/// Thrown by the writer to itself.
struct GivenUp {};

/// Deletes the oldest checkpoints beyond `keep`, but never `written`, what `latest` points at, or the one before
/// the first step, which is there because it was asked for. Not being able to is no reason to end a run.
void prune(const std::string& output, int64_t written, int64_t keep) try {
  if (keep == 0) return;
  std::error_code none;
  const std::string latest = fs::read_symlink(latest_path(output), none).filename().string();
  std::vector<CheckpointFolder> folders = list_checkpoints(output);
  // A folder with a later step can only be one that did not verify: it is replaced when the run gets there.
  std::erase_if(folders,
                [&](const CheckpointFolder& folder) { return folder.step == 0 || folder.step > written; });
  for (int64_t i = 0; i + keep < static_cast<int64_t>(folders.size()); ++i) {
    const CheckpointFolder& folder = folders[static_cast<size_t>(i)];
    if (folder.step != written && fs::path(folder.path).filename() != latest) remove_folder(folder.path);
  }
} catch (const std::exception& error) {
  print_line(stderr, fmt::format("warning: old checkpoints stay: {}", error.what()));
}

}  // namespace

struct CheckpointSaver::Impl {
  Impl(World& world_, const TrainConfig& config_, const CheckpointTensors& tensors_, Companions companions_)
      : world(world_), config(config_), tensors(tensors_), companions(std::move(companions_)) {
    const std::vector<ParameterRun> runs = parameter_runs(tensors.layout, world.size());
    if (world.rank() < static_cast<int>(runs.size())) run = runs[world.rank()].elements;
    DR_CHECK(tensors.partition.options().rank == world.rank());
    DR_CHECK(tensors.partition.options().size == world.size());
    memory.take(run.size() + 2 * tensors.partition.shard_size());
    if (tensors.parameters.device == Device::cuda) device_copy = std::make_unique<DeviceCopy>();
  }
  ~Impl() {
    abandon();
    join(pruner);
  }

  static void join(std::thread& thread) {
    if (thread.joinable()) thread.join();
  }

  /// Ends the writer; of its part nothing remains, as soon as rank 0 comes here as well.
  void abandon() {
    stop = true;
    join(writer);
    made.reset();
    folder.clear();
  }

  void make_folder() {
    if (!world.is_rank_0()) return;
    const std::string checkpoints = checkpoints_path(config.output);
    std::error_code error;
    // Somebody may have deleted it; but not `output`, which is locked.
    fs::create_directory(checkpoints, error);
    if (error) throw SystemError("{}: the folder cannot be made: {}", checkpoints, error.message());
    made.emplace(checkpoint_path(config.output, state.step));
    const std::string model = checkpoint_model_path(made->path());
    if (!fs::create_directory(model, error) && error)
      throw SystemError("{}: the folder cannot be made: {}", model, error.message());
  }

  void prepare_copy() {
    if (!fs::is_directory(checkpoint_model_path(folder)))
      throw SystemError(
          "{}: rank 0 made this folder, but it does not exist here: all machines must see the same output "
          "folder",
          checkpoint_model_path(folder));
    const int64_t shard = tensors.partition.shard_size();
    snapshot.parameters = memory.part(0, run.size());
    snapshot.m = memory.part(run.size(), run.size() + shard);
    snapshot.v = memory.part(run.size() + shard, run.size() + 2 * shard);

    const std::pair<Tensor, Tensor> copies[] = {
        {tensors.parameters.slice(run.begin, run.end), snapshot.parameters},
        {tensors.m, snapshot.m},
        {tensors.v, snapshot.v}};
    std::vector<SharedCopy::Piece> on_the_host;
    std::vector<DeviceCopy::Piece> on_the_device;
    for (const auto& [from, to] : copies) {
      if (from.numel() == 0) continue;
      if (device_copy)
        on_the_device.push_back({from, to});
      else
        on_the_host.push_back({from.pointer, to.pointer, from.bytes()});
    }
    copy.begin(on_the_host);
    if (device_copy) device_copy->begin(tensors.stream, std::move(on_the_device));
    fetched = !device_copy;
  }

  /// Copies what is on the device, in the writer thread. Whatever happens, training does not wait for ever.
  void fetch() {
    if (!device_copy) return;
    struct Release {
      std::atomic<bool>& done;
      ~Release() {
        done = true;
        done.notify_all();
      }
    } const release{fetched};
    device_copy->run(stop);
  }

  /// The writer thread.
  void write(const std::string& state_json, const std::string& config_yaml) try {
    const auto give_up_if_asked = [this] {
      if (stop) throw GivenUp();
    };
    fetch();
    copy.help(stop);
    give_up_if_asked();
    copy.wait();  // training may be waiting for this
    let_training_go_first();
    files = write_checkpoint_tensors(folder, tensors, snapshot, give_up_if_asked);
    if (world.is_rank_0()) {
      for (ManifestFile& file : write_model_description(folder, tensors, companions))
        files.push_back(std::move(file));
      for (const auto& [name, text] :
           {std::pair{kStateName, &state_json}, std::pair{kConfigName, &config_yaml}}) {
        write_file_atomically(folder + "/" + name, *text);
        files.push_back(
            {name, static_cast<int64_t>(text->size()), hash_bytes(std::as_bytes(std::span(*text)))});
      }
    }
    done = true;
  } catch (...) {
    failure = std::current_exception();  // read after join()
    done = true;
  }

  /// Turns the files of all ranks into a checkpoint. On rank 0.
  void publish(const std::vector<std::string>& lists) {
    std::vector<ManifestFile> all;
    for (const std::string& list : lists)
      for (ManifestFile& file : files_from_json(list, "list of files")) all.push_back(std::move(file));
    write_manifest(folder, kCheckpointKind, state.step, std::move(all));
    made->commit();
    replace_symlink(checkpoint_name(state.step), latest_path(config.output));
  }

  World& world;
  const TrainConfig& config;
  const CheckpointTensors tensors;
  const Companions companions;  // rank 0's
  Range run;                    // of the block: what this rank's model file holds
  HostMemory memory;
  CheckpointSnapshot snapshot;
  SharedCopy copy;                          // of what is in host memory
  std::unique_ptr<DeviceCopy> device_copy;  // of what is on a GPU, or null
  std::atomic<bool> fetched = true;         // it is over

  // Of the checkpoint being written:
  RunState state;
  std::string folder;                // where; empty: none
  std::optional<AtomicFolder> made;  // rank 0
  std::atomic<bool> stop = false, done = false;
  std::vector<ManifestFile> files;  // the writer's until it is joined, like `failure`
  std::exception_ptr failure;
  std::thread writer;

  std::thread pruner;  // rank 0
};

CheckpointSaver::CheckpointSaver(World& world, const TrainConfig& config, const CheckpointTensors& tensors,
                                 Companions companions)
    : impl_(std::make_unique<Impl>(world, config, tensors, std::move(companions))) {}
CheckpointSaver::~CheckpointSaver() = default;

void CheckpointSaver::start(const RunState& state) {
  DR_CHECK(!active());
  Impl& my = *impl_;
  my.state = state;
  my.stop = my.done = false;
  my.failure = nullptr;
  my.files.clear();
  try {
    my.world.together([&] { my.make_folder(); });
    my.folder = my.world.broadcast(my.made ? my.made->path() : std::string());
    my.world.together([&] { my.prepare_copy(); });
  } catch (...) {
    my.abandon();
    throw;
  }
  my.writer =
      std::thread(&Impl::write, &my, state_to_json(state, my.config, my.world.size()), to_yaml(my.config));
}

int64_t CheckpointSaver::snapshot_bytes(const ParameterLayout& layout, const Partition& partition) {
  int64_t largest = 0;
  for (const ParameterRun& run : parameter_runs(layout, partition.options().size))
    largest = std::max(largest, run.elements.size());
  return (largest + 2 * partition.shard_size()) * static_cast<int64_t>(sizeof(float));
}

bool CheckpointSaver::active() const { return !impl_->folder.empty(); }

void CheckpointSaver::wait_until_copied() {
  if (!active()) return;
  // The writer may hardly have run: all threads that would otherwise wait for it take a share.
  if (!impl_->copy.nothing_to_begin()) {
#pragma omp parallel
    impl_->copy.help(impl_->stop);
  }
  impl_->copy.wait();
  impl_->fetched.wait(false);
}

bool CheckpointSaver::written() const { return impl_->done; }

std::string CheckpointSaver::commit(Earlier earlier) {
  DR_CHECK(active());
  Impl& my = *impl_;
  Impl::join(my.writer);
  try {
    my.world.together([&] {
      if (my.failure) std::rethrow_exception(my.failure);
    });
    const std::vector<std::string> lists = my.world.gather(files_to_json(my.files));
    my.world.together([&] {
      if (my.world.is_rank_0()) my.publish(lists);
    });
  } catch (...) {
    my.abandon();
    throw;
  }
  my.made.reset();
  my.folder.clear();
  if (my.world.is_rank_0() && earlier == Earlier::prune) {
    Impl::join(my.pruner);
    my.pruner = std::thread(prune, my.config.output, my.state.step, my.config.checkpoint.keep);
  }
  return checkpoint_path(my.config.output, my.state.step);
}

}  // namespace depthroute
