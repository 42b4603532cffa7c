#include "eval/cells/site_change.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace depthroute {
namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

bool all_are(const std::vector<float>& values, float neutral) {
  return std::all_of(values.begin(), values.end(), [&](float value) { return value == neutral; });
}

/// " offset 0,-inf,0", or nothing if all are neutral.
std::string list_text(const char* name, const std::vector<float>& values, float neutral) {
  if (all_are(values, neutral)) return "";
  std::string text;
  for (const float value : values)
    text += fmt::format("{}{}", text.empty() ? "" : ",", value == 0 ? 0.0f : value);  // never "-0"
  return fmt::format(" {} {}", name, text);
}

std::string content_text(const Content& content) {
  switch (content.kind) {
    case ContentKind::mean:
      return "mean";
    case ContentKind::mean_per_position:
      return "mean_per_position";
    case ContentKind::donor:
      return "donor";
    case ContentKind::source:
      return fmt::format("source_{}", content.source);
  }
  return "";
}

const char* text_of(Replaced what) {
  if (what == Replaced::both) return "both";
  return what == Replaced::values ? "values" : "keys";
}

const char* text_of(WeightSource weights) {
  constexpr const char* kNames[] = {"softmax", "calibration", "calibration_per_position", "clean"};
  return kNames[static_cast<size_t>(weights)];
}

bool by_source(const Substitution& a, const Substitution& b) { return a.source < b.source; }

/// Whether a change leaves the weights alone, so that it can go with weights that another one sets.
bool replaces_values_only(const SiteChange& change) {
  return all_are(change.offset, 0) && all_are(change.scale, 1) && !change.sets_all_weights() &&
         std::ranges::all_of(change.substitutions,
                             [](const Substitution& s) { return s.what == Replaced::values; });
}

std::string site_text(const SiteChange& change) {
  std::string text;
  // Without learned logits, offsets of 0 are a change, too: uniform weights.
  if (!change.learned_logits) text += " no_learned_logits";
  text += list_text("offset", change.offset, 0);
  text += list_text("scale", change.scale, 1);
  if (change.weights != WeightSource::softmax) text += fmt::format(" weights {}", text_of(change.weights));
  std::vector<Substitution> sorted = change.substitutions;
  std::ranges::sort(sorted, by_source);
  for (const Substitution& s : sorted)
    text += fmt::format(" {} of {} from {}", text_of(s.what), s.source, content_text(s.content));
  if (const TokenRange tokens = change.tokens.normal(); !tokens.all()) text += " tokens " + tokens.text();
  return text;
}

/// Takes the entries of `more` that are not neutral.
void combine_values(std::vector<float>& values, const std::vector<float>& more, float neutral, int n) {
  if (more.empty()) return;
  if (values.empty()) values.assign(static_cast<size_t>(n), neutral);
  for (size_t j = 0; j < more.size(); ++j)
    if (more[j] != neutral) values[j] = more[j];
}

}  // namespace

TokenRange TokenRange::normal() const {
  if (filter == TokenFilter::position_0) return {TokenFilter::all, first, std::min<int64_t>(last, 0)};
  if (filter == TokenFilter::not_position_0) return {TokenFilter::all, std::max<int64_t>(first, 1), last};
  return *this;
}

std::string TokenRange::text() const {
  if (first == 0 && last == kEnd) return to_string(filter);
  return fmt::format("{} {}-{}", to_string(filter), first, last == kEnd ? "" : std::to_string(last));
}

bool SiteChange::changes() const {
  return sets_all_weights() || !substitutions.empty() || !all_are(offset, 0) || !all_are(scale, 1);
}

bool SiteChange::uses_donors() const {
  return std::ranges::any_of(substitutions,
                             [](const Substitution& s) { return s.content.kind == ContentKind::donor; });
}

bool SiteChange::leaves_nothing() const {
  const size_t n = std::max(offset.size(), scale.size());
  if (n == 0) return false;
  for (size_t j = 0; j < n; ++j) {
    const bool dropped = j < offset.size() && offset[j] == kDropped;
    if (!dropped && !(j < scale.size() && scale[j] == 0)) return false;
  }
  return true;
}

std::vector<bool> SiteChange::touched(int num_sources) const {
  std::vector<bool> all(static_cast<size_t>(num_sources), sets_all_weights());
  for (size_t j = 0; j < offset.size(); ++j)
    if (offset[j] != 0) all[j] = true;
  for (size_t j = 0; j < scale.size(); ++j)
    if (scale[j] != 1) all[j] = true;
  for (const Substitution& s : substitutions) all[static_cast<size_t>(s.source)] = true;
  return all;
}

std::string canonical_text(std::span<const SiteChange> changes) {
  std::string text;
  for (size_t site = 0; site < changes.size(); ++site)
    if (changes[site].changes()) text += fmt::format("site {}:{}\n", site, site_text(changes[site]));
  return text;
}

std::string conflict(const SiteChange& a, const SiteChange& b, int num_sources) {
  if (!a.changes() || !b.changes()) return "";
  if (a.tokens.normal() != b.tokens.normal())
    return fmt::format("change different tokens ({} and {})", a.tokens.text(), b.tokens.text());
  if (a.sets_all_weights() && b.sets_all_weights()) return "both set all weights";
  if (a.sets_all_weights() || b.sets_all_weights()) {
    if (replaces_values_only(a) || replaces_values_only(b)) return "";
    return "set all weights and change what the weights depend on (only `replace: values` goes with them)";
  }
  const std::vector<bool> in_a = a.touched(num_sources), in_b = b.touched(num_sources);
  for (int j = 0; j < num_sources; ++j)
    if (in_a[j] && in_b[j]) return fmt::format("both change source {}", j);
  return "";
}

void combine(SiteChange& change, const SiteChange& more, int num_sources) {
  if (!more.changes()) return;
  if (!change.changes()) {
    change = more;
    return;
  }
  combine_values(change.offset, more.offset, 0, num_sources);
  combine_values(change.scale, more.scale, 1, num_sources);
  change.learned_logits = change.learned_logits && more.learned_logits;
  if (more.weights != WeightSource::softmax) change.weights = more.weights;
  change.substitutions.insert(change.substitutions.end(), more.substitutions.begin(),
                              more.substitutions.end());
  std::ranges::sort(change.substitutions, by_source);
}

}  // namespace depthroute
