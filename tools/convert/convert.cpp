#include "tools/convert/convert.h"

#include <algorithm>

#include "configs/base/error.h"
#include "configs/standard_streams.h"
#include "data/json.h"
#include "data/model/fla.h"
#include "data/model/model_folder.h"
#include "data/model/other_code.h"
#include "tools/convert/model_source.h"
#include "tools/convert/modeling_file.h"
#include "train/model/depth_plan.h"

namespace depthroute {
namespace {

void set_dtype(std::vector<TensorToWrite>& tensors, Dtype dtype) {
  if (dtype == Dtype::stored) return;
  for (TensorToWrite& tensor : tensors) tensor.as_bf16 = dtype == Dtype::bf16;
}

/// What transformers is told to compute in: the matrices' dtype.
bool mostly_bf16(const std::vector<TensorToWrite>& tensors) {
  int64_t bf16 = 0, all = 0;
  for (const TensorToWrite& tensor : tensors) {
    const int64_t values = written_bytes(tensor) / (tensor.as_bf16 ? 2 : 4);
    all += values;
    if (tensor.as_bf16) bf16 += values;
  }
  return 2 * bf16 > all;
}

KeptKeys keys_of(const ModelSource& source, const ConvertOptions& options) {
  KeptKeys keys = source.companions().keys;
  if (options.max_positions) keys[kMaxPositions] = std::to_string(*options.max_positions);
  return keys;
}

std::string summary(const std::string& folder, const std::vector<std::string>& names,
                    const std::string& what) {
  std::string text = what + "\n";
  for (const std::string& name : names) text += fmt::format("{}/{}\n", folder, name);
  return text;
}

void warn(const std::string& text) { print_line(stderr, "warning: " + text); }

void warn_without_tokenizer(const Companions& companions, const std::string& folder) {
  if (companions.has_tokenizer()) return;
  warn(
      fmt::format("{}: no tokenizer files travel along; transformers 5 then makes an empty tokenizer without "
                  "failing: copy tokenizer.json and tokenizer_config.json into the source and export again",
                  folder));
}

Form form_of(const ConvertOptions& options, const ModelConfig& config) {
  if (options.format.empty())
    return config.residual.variant == Variant::additive ? Form::transformers : Form::depthroute;
  const auto form = parse<Form>(options.format);
  if (!form) throw ConfigError("--format: {} is none of {}", options.format, fmt::join(names<Form>(), ", "));
  return *form;
}

/// Gives the tensors fla's names and drops the recency biases, which must be 0.
void rename_for_fla(std::vector<TensorToWrite>& tensors, const std::string& folder) {
  std::vector<TensorToWrite> kept;
  for (TensorToWrite& tensor : tensors) {
    if (std::string name = fla_name(tensor.name); !name.empty()) {
      tensor.name = std::move(name);
      kept.push_back(tensor);
      continue;
    }
    float value = tensor.file ? 0 : tensor.values[0];
    if (tensor.file) tensor.file->read_float(*tensor.entry, {&value, 1});
    if (value != 0)
      throw DataError(
          "{}: cannot be exported as fla: it has no recency biases, and {} is {}: train with "
          "model.residual.recency_bias 0 and fixed, or export as depthroute",
          folder, tensor.name, value);
  }
  tensors = std::move(kept);
}

}  // namespace

std::string import_model(const ConvertOptions& options) {
  const ModelSource source(options.source);
  ModelOutput output(options.output, source.folder());
  ModelToWrite model{"", source.tensors(), source.companions().files};
  set_dtype(model.tensors, options.dtype);
  model.config_json =
      model_config_to_json(source.config(), mostly_bf16(model.tensors), keys_of(source, options));
  warn_without_tokenizer(source.companions(), source.folder());
  const auto names = output.write(model);
  return summary(options.output.path, names, fmt::format("imported from {}", source.form()));
}

std::string export_model(const ConvertOptions& options) {
  const ModelSource source(options.source);
  const Form form = form_of(options, source.config());
  if (const std::string reason = why_not(form, source.config()); !reason.empty())
    throw DataError("{}: cannot be exported as {}: {}", source.folder(), to_string(form), reason);
  ModelOutput output(options.output, source.folder());
  ModelToWrite model{"", source.tensors(), source.companions().files};
  set_dtype(model.tensors, options.dtype);
  if (form == Form::fla) rename_for_fla(model.tensors, source.folder());
  model.config_json =
      config_json_for(form, source.config(), mostly_bf16(model.tensors), keys_of(source, options));
  if (form == Form::depthroute) model.companions.push_back({kModelingName, kModelingText});
  warn_without_tokenizer(source.companions(), source.folder());
  if (form == Form::open_attnres)
    warn(
        "the open code's from_pretrained on transformers 5.3 overwrites learned recency biases with "
        "attnres_recency_bias_init; 5.24 loads them");
  const auto names = output.write(model);
  return summary(options.output.path, names, fmt::format("exported for {}", to_string(form)));
}

std::string wrap_model(const ConvertOptions& options, const WrapOptions& wrap) {
  const ModelSource source(options.source);
  ModelConfig config = source.config();
  if (config.residual.variant != Variant::additive)
    throw DataError("{}: its variant is {}; only a plain model can be wrapped", source.folder(),
                    to_string(config.residual.variant));
  config.residual = {Variant::cumulative, wrap.num_blocks, wrap.sublayers_per_block,
                     wrap.recency_bias.front()};
  if (const std::string problem = config.problem(); !problem.empty()) throw ConfigError("{}", problem);
  const DepthPlan plan = make_depth_plan(config);
  const size_t sites = plan.sites.size(), given = wrap.recency_bias.size();
  if (given != 1 && given != sites)
    throw ConfigError("--recency-bias: {} values, but the wrapped model has {} sites: give one value or {}",
                      given, sites, sites);
  const ParameterLayout layout(config, plan);
  const auto hidden = static_cast<size_t>(config.hidden_size);
  const std::vector<float> zeros(hidden, 0.0f), ones(hidden, 1.0f);
  std::vector<float> biases(sites);
  for (size_t site = 0; site < sites; ++site)
    biases[site] = static_cast<float>(wrap.recency_bias[given == 1 ? 0 : site]);

  std::vector<TensorToWrite> stored = source.tensors();
  set_dtype(stored, options.dtype);
  ModelToWrite model{"", {}, source.companions().files};
  size_t site = 0;  // the layout has biases in plan order
  for (const Parameter& parameter : layout.all()) {
    const auto found = std::find_if(stored.begin(), stored.end(), [&](const TensorToWrite& tensor) {
      return tensor.name == parameter.name;
    });
    if (found != stored.end()) {
      model.tensors.push_back(*found);
      continue;
    }
    // float32 whatever the rest is: a bias such as 3.7 is then what eval's model.wrap has.
    TensorToWrite tensor{parameter.name, parameter.shape.extents(), zeros};
    if (parameter.init == Init::ones) tensor.values = ones;
    if (parameter.init == Init::recency_bias) tensor.values = {&biases[site++], 1};
    model.tensors.push_back(tensor);
  }
  ModelOutput output(options.output, source.folder());
  model.config_json = model_config_to_json(config, mostly_bf16(model.tensors), keys_of(source, options));
  const auto names = output.write(model);
  return summary(options.output.path, names,
                 fmt::format("wrapped: {} sublayers per block, recency bias {}", plan.sublayers_per_block,
                             fmt::join(wrap.recency_bias, ", ")));
}

}  // namespace depthroute
