// What a cell does at one site, without tensors: it can be compared, combined and hashed before there is a
// model. measure/contents.h turns it into tensors, batch by batch.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "configs/terms.h"
#include "train/model/site_intervention.h"

namespace depthroute {

/// What a source is replaced by: its own state's mean over the calibration split, over all tokens or over
/// those at the same position; its own state in another sequence (resample.donors of them, one after another);
/// or what another source of the site holds.
enum class ContentKind : uint8_t { mean, mean_per_position, donor, source };

struct Content {
  ContentKind kind = ContentKind::mean;
  int source = -1;  // ContentKind::source: which one
  bool operator==(const Content&) const = default;
};

struct Substitution {
  int source = 0;
  Replaced what = Replaced::both;
  Content content;
  bool operator==(const Substitution&) const = default;
};

/// Where a site's weights come from: its logits, or the clean run's weights: their calibration means over all
/// tokens or over those at the same position, or each token's own.
enum class WeightSource : uint8_t { softmax, calibration, calibration_per_position, clean };

/// Tokens whose reads are changed: those of the filter at positions first ... last of their sequence.
struct TokenRange {
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();
  TokenFilter filter = TokenFilter::all;
  int64_t first = 0, last = kEnd;

  bool all() const { return *this == TokenRange{}; }
  /// The same tokens, said by positions as far as possible: equal ranges have equal normal forms.
  TokenRange normal() const;
  /// "all", "position_0", "all 3-7", "not_position_0 16-".
  std::string text() const;
  auto operator<=>(const TokenRange&) const = default;
};

/// The default is the clean run. Vectors have one entry per source, or none where they change nothing.
struct SiteChange {
  std::vector<float> offset;  // added to the logits; -inf drops a source
  std::vector<float> scale;   // factor of a source in the mix
  bool learned_logits = true;
  std::vector<Substitution> substitutions;  // at most one per source
  WeightSource weights = WeightSource::softmax;
  TokenRange tokens;
  bool operator==(const SiteChange&) const = default;

  /// Whether any token reads anything but what it reads in the clean run.
  bool changes() const;
  /// Whether all weights of the site are set, whatever its sources hold.
  bool sets_all_weights() const { return !learned_logits || weights != WeightSource::softmax; }
  bool uses_donors() const;
  /// Whether every source is dropped or scaled by 0.
  bool leaves_nothing() const;
  /// Returns, per source, whether its offset, scale or content is set; with sets_all_weights(), all true.
  std::vector<bool> touched(int num_sources) const;
};

/// Returns what is done at which site, one line per changed site. Equal texts have equal effects, whatever
/// the cells are called and however their sites were chosen.
std::string canonical_text(std::span<const SiteChange> changes);

/// Returns why two changes cannot be made at one site together, in words for "at this site, they ...", or "".
std::string conflict(const SiteChange& a, const SiteChange& b, int num_sources);
/// Adds `more`, which must not conflict, to `change`.
void combine(SiteChange& change, const SiteChange& more, int num_sources);

}  // namespace depthroute
