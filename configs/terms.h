// The words of configurations and results files. Each is an enum whose names are declared once, here, and
// typed from the YAML reader to HDF5: to_string(), parse<Enum>(), names<Enum>() and values<Enum>() follow.
// Meanings: train/model/SPEC.md §1, train/model/SPEC.md §3, eval/SPEC.md §1, eval/SPEC.md §2, eval/SPEC.md §3.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace depthroute {

/// Specialise with `kAll`, the names of the values in order. Optional member: `kParsed`, how many of them a
/// configuration may use (default: all).
template <typename Enum>
struct Names;

template <typename Enum>
concept Term = requires {
  Names<Enum>::kAll.size();
};

/// Which states a site reads and where they restart. Only the depth plan branches on this.
enum class Variant : uint8_t { additive, cumulative, reset, kimi };
template <>
struct Names<Variant> {
  static constexpr std::array kAll = {"additive", "cumulative", "reset", "kimi"};
};

/// The kind of sublayer that reads a site.
enum class Sublayer : uint8_t { attn, mlp, final };
template <>
struct Names<Sublayer> {
  static constexpr std::array kAll = {"attn", "mlp", "final"};
};

/// A source's role at its site, by position.
enum class Family : uint8_t { embedding, older, recent, current };
template <>
struct Names<Family> {
  static constexpr std::array kAll = {"embedding", "older", "recent", "current"};
};
inline constexpr int kNumFamilies = static_cast<int>(Names<Family>::kAll.size());

/// Thirds of the layers. The final site is in none, so no configuration can ask for `none`.
enum class Band : uint8_t { early, mid, late, none };
template <>
struct Names<Band> {
  static constexpr std::array kAll = {"early", "mid", "late", "none"};
  static constexpr size_t kParsed = 3;
};

/// What a cell does at each of its sites.
enum class Intervention : uint8_t {
  mask,
  only,
  zero,
  uniform,
  schedule,
  bias,
  mean,
  resample,
  freeze,
  hold,
  permute
};
template <>
struct Names<Intervention> {
  static constexpr std::array kAll = {"mask", "only",     "zero",   "uniform", "schedule", "bias",
                                      "mean", "resample", "freeze", "hold",    "permute"};
};
/// True if the intervention sets every weight of a site, so that there are no sources to choose.
constexpr bool acts_on_all_sources(Intervention intervention) {
  return intervention == Intervention::uniform || intervention == Intervention::schedule ||
         intervention == Intervention::freeze || intervention == Intervention::hold;
}
/// True if the intervention needs a number: the offset of `bias`, the recency bias of `schedule`.
constexpr bool takes_value(Intervention intervention) {
  return intervention == Intervention::bias || intervention == Intervention::schedule;
}

/// True if the intervention puts other contents in the place of its sources.
constexpr bool replaces_content(Intervention intervention) {
  return intervention == Intervention::mean || intervention == Intervention::resample ||
         intervention == Intervention::permute;
}
/// True if the intervention needs means over the calibration split.
constexpr bool needs_calibration(Intervention intervention) {
  return intervention == Intervention::mean || intervention == Intervention::freeze;
}

/// What of a source is replaced: what the site's keys see, what its values mix, or both.
enum class Replace : uint8_t { both, values, keys };
template <>
struct Names<Replace> {
  static constexpr std::array kAll = {"both", "values", "keys"};
};

/// What a calibration mean is taken over: all tokens, or those at the same position of their sequence.
enum class Average : uint8_t { all, position };
template <>
struct Names<Average> {
  static constexpr std::array kAll = {"all", "position"};
};

/// The tokens whose reads an intervention changes.
enum class TokenFilter : uint8_t { all, position_0, not_position_0, document_start };
template <>
struct Names<TokenFilter> {
  static constexpr std::array kAll = {"all", "position_0", "not_position_0", "document_start"};
};

/// Which sequences of the data are measured.
enum class Choose : uint8_t { first, spaced, shuffled, documents };
template <>
struct Names<Choose> {
  static constexpr std::array kAll = {"first", "spaced", "shuffled", "documents"};
};

/// What says where documents begin: nothing, `data.separator`, the shards themselves, or a task's requests. Only
/// results files use it.
enum class DocumentsFrom : uint8_t { none, separator, shards, requests };
template <>
struct Names<DocumentsFrom> {
  static constexpr std::array kAll = {"none", "separator", "shards", "requests"};
};

/// The part of the data that is measured. All but `all` are disjoint by document.
enum class Split : uint8_t { all, calibration, exploration, confirmation };
template <>
struct Names<Split> {
  static constexpr std::array kAll = {"all", "calibration", "exploration", "confirmation"};
};

/// How a benchmark task asks the model, in the harness's words: the log-likelihood of one continuation, of every
/// choice, or of a whole document in windows.
enum class TaskType : uint8_t { loglikelihood, multiple_choice, loglikelihood_rolling };
template <>
struct Names<TaskType> {
  static constexpr std::array kAll = {"loglikelihood", "multiple_choice", "loglikelihood_rolling"};
};

/// What a claim is about: the mean change of the loss, or the mean KL divergence from the clean run.
enum class ClaimMeasure : uint8_t { delta_nll, kl };
template <>
struct Names<ClaimMeasure> {
  static constexpr std::array kAll = {"delta_nll", "kl"};
};

/// Which (site, source) edges a grid visits one by one.
enum class EdgeChoice : uint8_t { none, all };
template <>
struct Names<EdgeChoice> {
  static constexpr std::array kAll = {"none", "all"};
};

/// Which routing weights a results file stores beside their statistics.
enum class RoutingWeights : uint8_t { none, all };
template <>
struct Names<RoutingWeights> {
  static constexpr std::array kAll = {"none", "all"};
};

/// What the backward pass computes again instead of keeping: nothing; SwiGLU's product; also routed reads,
/// their norms and q/k norms; whole layers. Each choice includes the ones before it. The same kernels run on
/// the same numbers, so results do not change by a bit.
enum class Recompute : uint8_t { none, act, norms, layer };
template <>
struct Names<Recompute> {
  static constexpr std::array kAll = {"none", "act", "norms", "layer"};
};

/// The order in which an epoch visits the samples of a token stream.
enum class DataOrder : uint8_t { sequential, shuffled };
template <>
struct Names<DataOrder> {
  static constexpr std::array kAll = {"sequential", "shuffled"};
};

/// How the learning rate falls after the warm-up.
enum class LearningRateDecay : uint8_t { cosine, wsd, constant };
template <>
struct Names<LearningRateDecay> {
  static constexpr std::array kAll = {"cosine", "wsd", "constant"};
};

/// The device asked for; `automatic` is a GPU if there is one.
enum class DeviceChoice : uint8_t { automatic, cpu, cuda };
template <>
struct Names<DeviceChoice> {
  static constexpr std::array kAll = {"auto", "cpu", "cuda"};
};

/// The precision asked for. The CPU always computes in fp32.
enum class Precision : uint8_t { bf16, fp32 };
template <>
struct Names<Precision> {
  static constexpr std::array kAll = {"bf16", "fp32"};
};

/// What carries device memory between ranks; `automatic` is NCCL if every rank has a GPU of its own.
enum class CollectiveBackend : uint8_t { automatic, nccl, mpi };
template <>
struct Names<CollectiveBackend> {
  static constexpr std::array kAll = {"auto", "nccl", "mpi"};
};

template <Term Enum>
constexpr const char* to_string(Enum value) {
  return Names<Enum>::kAll[static_cast<size_t>(value)];
}

/// The values a configuration may use, in order.
template <Term Enum>
std::vector<Enum> values() {
  size_t count = Names<Enum>::kAll.size();
  if constexpr (requires { Names<Enum>::kParsed; }) count = Names<Enum>::kParsed;
  std::vector<Enum> all;
  for (size_t i = 0; i < count; ++i) all.push_back(static_cast<Enum>(i));
  return all;
}

/// Their names, in the same order.
template <Term Enum>
std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Enum value : values<Enum>()) all.emplace_back(to_string(value));
  return all;
}

/// The value of this name; nothing if a configuration may not use it.
template <Term Enum>
std::optional<Enum> parse(std::string_view text) {
  for (const Enum value : values<Enum>())
    if (text == to_string(value)) return value;
  return std::nullopt;
}

/// ConfigError "<what> must be one of auto, cpu, cuda, got 'gpu'".
[[noreturn]] void fail_unknown_name(std::string_view what, std::string_view text,
                                    const std::vector<std::string>& known);

/// The value of a name that comes from elsewhere than a configuration file; ConfigError naming `what`
/// otherwise.
template <Term Enum>
Enum parse_or_fail(std::string_view what, std::string_view text) {
  if (const std::optional<Enum> value = parse<Enum>(text)) return *value;
  fail_unknown_name(what, text, names<Enum>());
}

}  // namespace depthroute
