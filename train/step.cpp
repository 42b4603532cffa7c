#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "configs/base/error.h"
#include "kernels/collectives/world.h"
#include "kernels/ops/ops.h"
#include "train/learning_rate.h"

namespace depthroute {

namespace {

/// The last micro-batch of a step and of a validation.
std::vector<int64_t> smaller_batches(const TrainConfig& config) {
  std::vector<int64_t> sizes;
  for (const int64_t sequences : {config.train.global_batch, config.validate.sequences})
    if (const int64_t rest = sequences % config.train.micro_batch; rest > 0) sizes.push_back(rest);
  return sizes;
}

Qwen3Options model_options(const TrainConfig& config, Device device, int64_t block_size) {
  return {.micro_batch = config.train.micro_batch,
          .seq_len = config.data.seq_len,
          .training = true,
          .activations = working_type(device, config.precision),
          .recompute = config.train.recompute,
          .group_reads = GroupReads::where_it_pays,
          .overlap = config.train.overlap,
          .deterministic = config.deterministic,
          .block_size = block_size,
          .smaller_batches = smaller_batches(config)};
}

PartitionOptions partition_options(const TrainConfig& config, const Collectives& collectives) {
  const int size = collectives.size();
  return {.rank = collectives.rank(),
          .size = size,
          .pieces = config.deterministic ? narrow<int>(config.distributed.shards) : size,
          .bucket_elements = (config.distributed.bucket_mib << 20) / size_of(DType::f32)};
}

Collectives& no_collectives() {
  static const std::unique_ptr<Collectives> alone =
      make_single_world()->make_collectives(Device::cpu, CollectivesOptions{});
  return *alone;
}

}  // namespace

void check_ranks(const TrainConfig& config, int ranks) {
  const int64_t micro_batches = config.train.global_batch / config.train.micro_batch;
  if (config.deterministic && config.distributed.shards % ranks != 0)
    throw ConfigError(
        "deterministic: true sums a step as distributed.shards = {} slices, which {} processes cannot share equally: "
        "start as many processes as divide it",
        config.distributed.shards, ranks);
  if (micro_batches < ranks)
    throw ConfigError(
        "train.global_batch / train.micro_batch = {} / {} gives {} micro-batches, too few for {} processes: lower "
        "train.micro_batch, or start fewer processes",
        config.train.global_batch, config.train.micro_batch, micro_batches, ranks);
}

TrainingStep::TrainingStep(const TrainConfig& config, Device device)
    : TrainingStep(config, device, no_collectives()) {}

TrainingStep::TrainingStep(const TrainConfig& config, Device device, Collectives& collectives)
    : config_(config),
      collectives_(collectives),
      arena_(device),
      partition_(ParameterLayout(config.model, make_depth_plan(config.model)),
                 partition_options(config, collectives)),
      model_(config.model, model_options(config, device, partition_.padded_size()), arena_),
      optimizer_(config.optimizer, model_.layout(), partition_, arena_),
      sum_(model_.layout(), partition_, collectives, arena_),
      gather_(model_.layout(), partition_, collectives) {
  const Shape shape{config.train.micro_batch, config.data.seq_len};
  arena_.plan(Purpose::batch, &tokens_, shape, DType::i32);
  arena_.plan(Purpose::batch, &targets_, shape, DType::i32);
  arena_.plan(Purpose::batch, &total_, {1}, DType::f64);
  arena_.plan(Purpose::batch, &loss_, {1}, DType::f64);
  arena_.plan(Purpose::batch, &norm_, {1});
  const auto buckets = static_cast<int64_t>(partition_.buckets().size());
  arena_.plan(Purpose::batch, &slices_, {partition_.options().pieces, 1 + buckets + 1}, DType::f64);
  if (const int64_t floats = ops::sum_of_squares_workspace(device))
    arena_.plan(Purpose::workspace, &workspace_, {floats});
}

// No call may write to the arena once it is gone. While a failure passes through, other ranks may not answer.
TrainingStep::~TrainingStep() {
  if (std::uncaught_exceptions() > 0) {
    collectives_.leave();
    return;
  }
  if (!gather_.under_way()) return;
  try {
    finish_update();
  } catch (const std::exception&) {
  }
}

void TrainingStep::allocate() {
  const std::string unrecordable = model_.attention_notes().unrecordable;
  if (config_.train.cuda_graph && !unrecordable.empty())
    throw ConfigError(
        "train.cuda_graph: {}: use train.cuda_graph: false, a data.seq_len that is a multiple of 128, or cuDNN 9.16",
        unrecordable);
  stream_ = make_stream(arena_.device());
  reserve_device(stream_);
  arena_.allocate();
  make_host_buffers(arena_.device());
}

void TrainingStep::reserve_addresses() {
  stream_ = {arena_.device(), nullptr};
  arena_.reserve_addresses();
  make_host_buffers(Device::cpu);  // nothing is copied from them
}

void TrainingStep::make_host_buffers(Device copied_to) {
  const int64_t first_slice = int64_t{collectives_.rank()} * partition_.pieces_per_rank();
  const int64_t micro_batches =
      slice_begin(first_slice + partition_.pieces_per_rank()) - slice_begin(first_slice);
  inputs_ =
      StagingMemory(copied_to, std::max<int64_t>(1, micro_batches) * (tokens_.bytes() + targets_.bytes()));
  host_slices_.resize(static_cast<size_t>(slices_.numel()));
}

/// The first micro-batch of a slice; slices are of nearly equal size.
int64_t TrainingStep::slice_begin(int64_t slice) const {
  const int64_t micro_batches = div_ceil(config_.train.global_batch, config_.train.micro_batch);
  return micro_batches * slice / partition_.options().pieces;
}

Tensor TrainingStep::slice_value(int index, int64_t column) const {
  const int64_t row = collectives_.rank() * partition_.pieces_per_rank() + index;
  const int64_t at = row * slices_.cols() + column;
  return slices_.reshape({slices_.numel()}).slice(at, at + 1);
}

StepResult TrainingStep::run(int64_t t, const BatchSource& batch, const StepHooks& hooks) {
  const auto num_targets = static_cast<double>(config_.train.global_batch * config_.data.seq_len);
  const auto grad_scale = static_cast<float>(1.0 / num_targets);
  const int slices = partition_.pieces_per_rank();
  inputs_used_ = 0;
  for (int index = 0; index < slices; ++index) {
    accumulate_slice(index, batch, grad_scale);
    if (index + 1 < slices) sum_.take(stream_, index, model_.gradients());
  }
  exchange_slices(hooks);
  StepResult result;
  result.lr = learning_rate(config_.optimizer, config_.train.steps, t);
  if (hooks.before_update) hooks.before_update();
  update(t, result.lr);

  // The step's only wait, for the numbers that are logged and the other ranks' flags. It comes before the
  // copies, which would wait forever if a rank is gone.
  collectives_.synchronize(stream_);
  double loss = 0;
  float norm = 0;
  ops::copy(stream_, loss_, host_tensor(&loss, {1}));
  ops::copy(stream_, norm_, host_tensor(&norm, {1}));
  ops::copy(stream_, slices_, host_tensor(host_slices_.data(), slices_.shape));
  synchronize(stream_);
  result.loss = loss / num_targets;
  result.grad_norm = norm;
  result.applied = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
  if (!result.applied) finish_update();  // the run may end here
  for (int rank = 0; rank < collectives_.size(); ++rank)
    result.flags.push_back(
        static_cast<int64_t>(host_slices_[static_cast<size_t>((rank * slices + 1) * slices_.cols() - 1)]));
  return result;
}

/// Computes gradient and loss of this rank's index-th slice. Starts the exchange while it computes the last
/// one. A recording can neither wait for parameters nor start an exchange: the step's first micro-batch and the
/// last one run without.
void TrainingStep::accumulate_slice(int index, const BatchSource& batch, float grad_scale) {
  const int64_t size = config_.train.micro_batch;
  const int64_t sequences = config_.train.global_batch;
  const int64_t slice = collectives_.rank() * partition_.pieces_per_rank() + index;
  const int64_t begin = slice_begin(slice), end = slice_begin(slice + 1);
  const bool last_slice = index + 1 == partition_.pieces_per_rank();
  ops::zero(stream_, model_.gradients());
  ops::zero(stream_, total_);
  for (int64_t i = begin; i < end; ++i) {
    const DeviceBatch micro = upload(i * size, std::min(size, sequences - i * size), batch);
    ParametersNeeded needed;
    GradientsReady ready;
    if (gather_.under_way())
      needed = [this](int64_t first, int64_t last) { gather_.need(stream_, first, last); };
    if (last_slice && i + 1 == end && collectives_.size() > 1)
      ready = [this](int64_t from) { sum_.complete(stream_, from, model_.gradients()); };
    const bool same_size = sequences % size == 0;  // a recorded graph is for one size
    if (config_.train.cuda_graph && same_size && !needed && !ready)
      replay_.run(stream_, [&] { micro_batch(micro, grad_scale, {}, {}); });
    else
      micro_batch(micro, grad_scale, needed, ready);
  }
  if (last_slice && collectives_.size() == 1) sum_.complete(stream_, 0, model_.gradients());
  ops::copy(stream_, total_, slice_value(index, 0));
}

void TrainingStep::rehearse() {
  const int64_t vocab = config_.model.vocab_size;
  const BatchSource made_up = [vocab](int64_t, int64_t, std::span<int32_t> tokens,
                                      std::span<int32_t> targets) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(static_cast<int64_t>(i) % vocab);
      targets[i] = static_cast<int32_t>((static_cast<int64_t>(i) + 1) % vocab);
    }
  };
  inputs_used_ = 0;
  micro_batch(upload(0, std::min(config_.train.micro_batch, config_.train.global_batch), made_up), 1.0f, {},
              {});
  synchronize(stream_);
}

void TrainingStep::micro_batch(const DeviceBatch& batch, float grad_scale, const ParametersNeeded& needed,
                               const GradientsReady& ready) {
  model_.forward(stream_, batch.tokens, {}, 0, needed);
  model_.backward(stream_, batch.targets, grad_scale, ready);
  ops::sum(stream_, model_.nll(), total_);
}

/// Makes loss and norm of the whole step known on every rank.
void TrainingStep::exchange_slices(const StepHooks& hooks) {
  const auto& buckets = partition_.buckets();
  const int slices = partition_.pieces_per_rank();
  for (const int b : sum_.order()) {  // the first are there while the last are still under way
    sum_.wait(stream_, b);
    const OwnedRange owned = partition_.owned(b);
    const int64_t piece = div_exact(owned.size(), int64_t{slices});
    for (int index = 0; index < slices; ++index) {
      const int64_t begin = owned.begin + index * piece;
      ops::sum_of_squares(stream_, model_.gradients().slice(begin, begin + piece), slice_value(index, 1 + b),
                          workspace_);
    }
  }
  const double flag = hooks.flag ? static_cast<double>(hooks.flag()) : 0.0;
  ops::copy(stream_, host_tensor(&flag, {1}), slice_value(0, slices_.cols() - 1));
  collectives_.wait(stream_, collectives_.all_gather(stream_, slices_));
  ops::combine_shard_totals(stream_, slices_, static_cast<int64_t>(buckets.size()), loss_, norm_);
}

void TrainingStep::update(int64_t t, double lr) {
  const Tensor compute = model_.compute_parameters(), parameters = model_.parameters();
  for (const int b : gather_.order()) {
    optimizer_.update(stream_, t, lr, b, {loss_, norm_}, model_.gradients(), parameters, compute);
    if (collectives_.size() > 1) gather_.start(stream_, b, parameters, compute);
  }
}

void TrainingStep::finish_update() {
  if (!gather_.under_way()) return;
  gather_.need_all(stream_);
  collectives_.synchronize(stream_);
}

void TrainingStep::gather_parameters() {
  if (collectives_.size() == 1) return;
  finish_update();
  Collectives::Ticket ticket = 0;
  if (model_.compute_parameters().defined()) {
    for (const Range& bucket : partition_.buckets())
      ticket = collectives_.all_gather(stream_, model_.parameters().slice(bucket.begin, bucket.end));
    collectives_.wait(stream_, ticket);
  }
  collectives_.synchronize(stream_);
}

double TrainingStep::evaluate(int64_t first, int64_t count, const BatchSource& batch) {
  finish_update();
  inputs_used_ = 0;
  const DeviceBatch micro = upload(first, count, batch);
  ops::zero(stream_, total_);
  model_.forward(stream_, micro.tokens);
  model_.loss(stream_, micro.targets);
  ops::sum(stream_, model_.nll(), total_);
  return read_total();
}

TrainingStep::DeviceBatch TrainingStep::upload(int64_t first, int64_t count, const BatchSource& batch) {
  const int64_t seq_len = config_.data.seq_len, size = count * seq_len;
  DR_CHECK((inputs_used_ + 2 * size) * size_of(DType::i32) <= inputs_.bytes());
  int32_t* tokens = reinterpret_cast<int32_t*>(inputs_.data()) + inputs_used_;
  int32_t* targets = tokens + size;
  inputs_used_ += 2 * size;
  const auto length = static_cast<size_t>(size);
  batch(first, count, std::span(tokens, length), std::span(targets, length));
  const DeviceBatch views{tokens_.slice(0, count), targets_.slice(0, count)};
  ops::copy(stream_, host_tensor(tokens, {count, seq_len}), views.tokens);
  ops::copy(stream_, host_tensor(targets, {count, seq_len}), views.targets);
  return views;
}

double TrainingStep::read_total() {
  double total = 0;
  ops::copy(stream_, total_, host_tensor(&total, {1}));
  synchronize(stream_);
  return total;
}

}  // namespace depthroute
