// Small models written by hand, so that what an intervention must find is known: every sublayer is a linear map
// from channels of its read to channels of its output, token by token, and every site has chosen weights.
//
// All states hold the same large constant in one channel. It sets the RMS of every read, whatever the weights
// are and whatever is masked, so that the norms are one known factor and amounts add up exactly. Every sublayer
// also marks its output with a channel of its own (its tag), by which the pseudo-queries know the states.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "configs/model_config.h"
#include "train/model/depth_plan.h"
#include "train/model/parameters.h"

namespace depthroute {

class PlantedModel {
 public:
  static constexpr int kVocab = 16;

  /// The embedding of token t is 1 in channel token(t); the logit of v is the amount in channel answer(v) of
  /// what the final norm reads. code(), other() and spare() mean what a test makes of them.
  static constexpr int token(int t) { return t; }
  static constexpr int answer(int v) { return kVocab + v; }
  static constexpr int code(int t) { return 2 * kVocab + t; }
  static constexpr int other(int t) { return 3 * kVocab + t; }
  static constexpr int spare(int i) { return 4 * kVocab + i; }  // 0 ... 9
  static constexpr int kConstant = 4 * kVocab + 10;
  static constexpr double kAmount = 1e5;  // in kConstant
  /// 1 in the states that contain output i: 0 the embedding, s + 1 sublayer s.
  static constexpr int tag(int i) { return kConstant + 1 + i; }

  /// `layers` of one block each. Weights are uniform, and of a final site the current state's alone, until a
  /// test chooses others. The sublayers of restarting states copy the constant.
  explicit PlantedModel(Variant variant, int layers = 6);

  const ModelConfig& config() const { return config_; }
  const DepthPlan& plan() const { return plan_; }

  /// Gives the sources of a site, which all differ or are the copy of a boundary's last two, these weights.
  void weigh(int site, const std::vector<double>& weights);
  /// Weights by state of the chosen ones; the rest is shared evenly.
  void weigh_states(int site, const std::map<int, double>& by_state);
  /// Adds slope * V_j[channel] to the logit of every source.
  void steer(int site, int channel, double slope);
  /// f[to] += gain * h[from], h being the read of the sublayer, before its norm.
  void write(int sublayer, int from, int to, double gain);
  /// Likewise for one channel per token: write(from(t), to(t + shift)), tokens being counted modulo kVocab.
  void write_tokens(int sublayer, int (*from)(int), int (*to)(int), double gain, int shift = 0);
  /// Lets the sublayer write nothing at all, not even its tag.
  void silence(int sublayer);
  /// Lets an attention sublayer average over the positions up to its own instead of reading its own alone.
  void attend_to_all(int layer);

  /// The place of a state among the sources of a site; the last one if there are two.
  int source_of(int site, int state) const;
  /// Clean weight of a source.
  double weight(int site, int source) const;
  /// How much of output i is in the clean read of a site.
  double coefficient(int site, int output) const;

  /// Writes a model folder.
  void save(const std::string& folder) const;

 private:
  static constexpr int kChannels = 96, kSlots = 64;
  struct Link {
    int from, to;
    double gain;
  };
  float* parameter(const std::string& name) { return values_.data() + layout_.find(name).offset; }
  std::string read_name(int site, const char* what) const;
  void fill_constants();
  void fill_attention(int layer, const std::vector<Link>& links);
  void fill_mlp(int layer, const std::vector<Link>& links);

  ModelConfig config_;
  DepthPlan plan_;
  ParameterLayout layout_;
  std::vector<std::vector<int>> outputs_;     // of states
  std::vector<std::vector<double>> weights_;  // by site
  std::vector<std::vector<Link>> links_;      // by sublayer
  std::vector<bool> silent_;
  std::vector<float> values_;
};

}  // namespace depthroute
