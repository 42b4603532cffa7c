// What an evaluation reads, opened and checked before anything is computed: the model, wrapped or not, the
// sequences, and the cells resolved against the model's depth plan. Every mode of the program starts from it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configs/cli.h"
#include "configs/eval_config.h"
#include "data/model/model_folder.h"
#include "data/tokens/request_file.h"
#include "data/tokens/token_stream.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/contents.h"
#include "eval/measure/work_plan.h"
#include "eval/results/unit_store.h"
#include "eval/sequences/sequences.h"
#include "train/model/depth_plan.h"

namespace depthroute {

struct EvalModel {
  ModelFolder folder;
  ModelConfig config;  // what runs: the folder's, or `cumulative` for a wrapped model
  std::vector<double>
      recency_bias;  // of the wrapper's recency schedule, one value or one per site; empty: not wrapped

  bool wrapped() const { return !recency_bias.empty(); }
  std::string describe() const;  // one line
  /// The training step of the checkpoint the model is of; -1 if its path does not tell.
  int64_t step() const;
};

/// Opens the model that `from` names (open_model()) and decides what runs. InputError for a wrap on a model
/// that is not plain, cells on a plain model that is not wrapped, or a list of biases of the wrong length.
EvalModel open_eval_model(const EvalConfig& config, const std::string& from);

/// Fills the parameters of `model`, which must be allocated.
void load_eval_model(Stream stream, const EvalModel& source, Qwen3& model);

/// Sets data.separator to the one that the shards' manifests name. ConfigError if it was given and is another.
void take_separator(const StreamManifest& manifest, EvalDataConfig& data);

/// Hashes the text of a configuration without `output`, which does not change the results.
std::string config_hash(const EvalConfig& config);

/// What is compared with the clean run. Equal interventions are one comparison, whatever they are called.
struct Comparisons {
  std::vector<Comparison> list;
  std::vector<int> of_cell;          // index; -1 where a cell does not run
  std::vector<int> of_known_answer;  // index
};
/// Views of `cells` and `known_answers`. `donors` and `calibration` say how these are chosen: part of the hashes
/// of what needs them.
Comparisons make_comparisons(const DepthPlan& plan, const std::vector<Cell>& cells,
                             const std::vector<KnownAnswer>& known_answers, const std::string& donors,
                             const std::string& calibration);

class EvalInput {
 public:
  /// Computes nothing and writes nothing. InputError for what cannot work. `folder`: the model folder rank 0
  /// found for model.from; "": find it.
  explicit EvalInput(const EvalConfig& eval_config, const std::string& folder = "");

  EvalConfig config;  // data.separator as take_separator() leaves it
  EvalModel model;
  std::unique_ptr<TokenStream> tokens;    // of data.shards; null with data.requests
  std::unique_ptr<RequestFile> requests;  // the other way round
  std::unique_ptr<Sequences> sequences;
  std::unique_ptr<Sequences> calibration;  // of the calibration split; null unless something needs it
  DepthPlan plan;
  std::vector<Cell> cells;
  std::vector<KnownAnswer> known_answers;
  Comparisons comparisons;

  BatchRange batches() const { return BatchRange::all(sequences->size(), micro_batch()); }
  int64_t micro_batch() const { return std::min(config.micro_batch, sequences->size()); }
  /// A cheap check whether ranks have the same data.
  std::string data_outline() const { return tokens ? tokens->outline() : requests->checksum(); }
  int64_t donors() const;  // 0 if no cell needs any
  bool stores_weights() const;
  CleanOptions clean_options() const { return {stores_weights(), config.routing.edge_estimates}; }
  ContentNeeds needs() const;
  UnitLayout layout() const;
  /// Hashes the model and the tokens, which takes a while. Knows nothing of the device.
  Provenance provenance(const CommandLine& command) const;

 private:
  void open_data();
  std::string measurement(const Provenance& from) const;
};

}  // namespace depthroute
