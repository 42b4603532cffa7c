#include "tests/gpu/shape_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "kernels/arena.h"
#include "kernels/ops/ops.h"
#include "tests/tolerances.h"
#include "train/model/qwen3.h"

namespace depthroute {

namespace {

/// To the nearest bf16, ties to even.
float rounded_to_bf16(float value) {
  const auto word = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((word + 0x7fff + ((word >> 16) & 1)) & 0xffff0000u);
}

struct Direction {
  double product = 0, ours = 0, reference = 0;  // sums of a b, a a, b b
  void add(std::span<const float> a, std::span<const float> b) {
    for (size_t i = 0; i < a.size(); ++i) {
      product += static_cast<double>(a[i]) * b[i];
      ours += static_cast<double>(a[i]) * a[i];
      reference += static_cast<double>(b[i]) * b[i];
    }
  }
  double one_minus_cosine() const { return 1 - product / std::sqrt(ours * reference); }
};

/// Takes the larger figure; a NaN stays.
void take(ShapeFigure& worst, double figure, const std::string& where) {
  if (std::isnan(worst.figure) || figure <= worst.figure) return;
  worst.figure = figure;
  worst.where = where;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0, reference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - b[i];
    square += difference * difference;
    reference += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(square / reference);
}

}  // namespace

ShapeCheck::ShapeCheck(const TrainConfig& config, Device device, int64_t sequences)
    : config_(config),
      device_(device),
      act_(working_type(device, config.precision)),
      sequences_(sequences),
      layout_(config.model, make_depth_plan(config.model)),
      parameters_(static_cast<size_t>(layout_.block_size())),
      tokens_(static_cast<size_t>(sequences * config.data.seq_len)),
      targets_(tokens_.size()) {
  initialize_parameters(layout_, config.seed, 0, host_tensor(parameters_.data(), {layout_.block_size()}));
  std::mt19937 random(static_cast<uint32_t>(config.seed));
  // Logits of the reads then have a standard deviation of about one.
  const float query = 1.7f / std::sqrt(static_cast<float>(config.model.hidden_size));
  std::uniform_real_distribution<float> queries(-query, query);
  for (const Parameter& parameter : layout_.all()) {
    const std::span<float> values(parameters_.data() + parameter.offset,
                                  static_cast<size_t>(parameter.numel()));
    if (parameter.init == Init::zeros)
      std::generate(values.begin(), values.end(), [&] { return queries(random); });
    if (parameter.decay && act_ == DType::bf16)
      std::transform(values.begin(), values.end(), values.begin(), rounded_to_bf16);
  }
  std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(config.model.vocab_size - 1));
  for (int32_t& value : tokens_) value = token(random);
  for (int32_t& value : targets_) value = token(random);
}

ShapePass ShapeCheck::run(Device device, int64_t sequences, int64_t micro_batch) const {
  const int64_t length = config_.data.seq_len, rows = micro_batch * length;
  Arena arena(device);
  Tensor tokens, targets;
  Qwen3 model(config_.model,
              {.micro_batch = micro_batch,
               .seq_len = length,
               .training = true,
               .activations = device == device_ ? act_ : DType::f32,
               .recompute = config_.train.recompute},
              arena);
  arena.plan(Purpose::batch, &tokens, {micro_batch, length}, DType::i32);
  arena.plan(Purpose::batch, &targets, {micro_batch, length}, DType::i32);
  arena.allocate();
  const Stream stream = make_stream(device);
  // Copies do not write to the host's side.
  const auto host = [](const auto& values, int64_t first, Shape shape, DType dtype) {
    return Tensor{const_cast<void*>(static_cast<const void*>(values.data() + first)), shape, dtype,
                  Device::cpu};
  };
  const Tensor block = model.parameters().slice(0, layout_.block_size());
  ops::copy(stream, host(parameters_, 0, block.shape, DType::f32), block);
  ops::zero(stream, model.gradients());

  ShapePass result;
  std::vector<float> nll(static_cast<size_t>(rows));
  const double total = static_cast<double>(sequences * length);
  for (int64_t first = 0; first < sequences; first += micro_batch) {
    ops::copy(stream, host(tokens_, first * length, tokens.shape, DType::i32), tokens);
    ops::copy(stream, host(targets_, first * length, targets.shape, DType::i32), targets);
    model.forward(stream, tokens);
    model.backward(stream, targets, static_cast<float>(1.0 / total));
    ops::copy(stream, model.nll(), host_tensor(nll.data(), {rows}));
    synchronize(stream);
    for (const float value : nll) result.loss += value / total;
  }
  result.gradients.resize(parameters_.size());
  ops::copy(stream, model.gradients().slice(0, layout_.block_size()),
            host_tensor(result.gradients.data(), block.shape));
  synchronize(stream);
  return result;
}

std::vector<ShapeFigure> ShapeCheck::compare(const ShapePass& ours, const ShapePass& reference) const {
  Direction all, biases;
  all.add(ours.gradients, reference.gradients);
  ShapeFigure model{"direction of gradients", 0, tolerance::kShapeDirection, "no parameter differs"};
  ShapeFigure routing{"direction of routing gradients", 0, tolerance::kShapeRoutingDirection,
                      "no parameter differs"};
  for (const Parameter& parameter : layout_.all()) {
    const auto part = [&](const std::vector<float>& block) {
      return std::span<const float>(block.data() + parameter.offset, static_cast<size_t>(parameter.numel()));
    };
    // The sign of one scalar says little: all biases together are one vector.
    if (parameter.init == Init::recency_bias) {
      biases.add(part(ours.gradients), part(reference.gradients));
      continue;
    }
    Direction direction;
    direction.add(part(ours.gradients), part(reference.gradients));
    // Zero in exact arithmetic: reads of equal sources.
    if (direction.reference < 1e-12 * all.reference) continue;
    const bool routes = parameter.name.find("_res_") != std::string::npos;
    take(routes ? routing : model, direction.one_minus_cosine(), parameter.name);
  }
  if (biases.reference > 1e-12 * all.reference)
    take(routing, biases.one_minus_cosine(), "all recency biases");
  const double norm = std::sqrt(all.ours), expected = std::sqrt(all.reference);
  return {{"loss", std::abs(ours.loss - reference.loss), tolerance::kShapeLoss,
           fmt::format("{:.5f} and {:.5f}", ours.loss, reference.loss)},
          {"gradient norm", std::abs(norm / expected - 1), tolerance::kShapeNorm,
           fmt::format("{:.5g} and {:.5g}", norm, expected)},
          model,
          routing};
}

std::vector<ShapeFigure> ShapeCheck::against_cpu() const {
  const ShapePass ours = run(device_, 1, 1);
  const double uniform = std::log(static_cast<double>(config_.model.vocab_size));
  std::vector<ShapeFigure> figures = {{"first loss less ln V", std::abs(ours.loss - uniform),
                                       tolerance::kShapeFirstLoss,
                                       fmt::format("{:.4f}, ln V is {:.4f}", ours.loss, uniform)}};
  const std::vector<ShapeFigure> compared = compare(ours, run(Device::cpu, 1, 1));
  figures.insert(figures.end(), compared.begin(), compared.end());
  return figures;
}

std::vector<ShapeFigure> ShapeCheck::against_single_sequences() const {
  const ShapePass together = run(device_, sequences_, sequences_), single = run(device_, sequences_, 1);
  const bool bf16 = act_ == DType::bf16;
  return {
      {fmt::format("loss, {} at once or singly", sequences_), std::abs(together.loss - single.loss),
       bf16 ? tolerance::kShapeLoss : tolerance::kShapeSumFloat,
       fmt::format("{:.5f} and {:.5f}", together.loss, single.loss)},
      {fmt::format("gradients, {} at once or singly", sequences_),
       relative_distance(together.gradients, single.gradients),
       bf16 ? tolerance::kShapeSumBf16 : tolerance::kShapeSumFloat, "relative distance over all parameters"}};
}

}  // namespace depthroute
