// The groups of the results file that are not about cells, one function each.
#include <cmath>

#include "eval/analysis/coefficients.h"
#include "eval/analysis/effects.h"
#include "eval/results/put.h"
#include "eval/results/results_file.h"
#include "eval/results/unit_file.h"

namespace depthroute {

void ResultsFile::write_sites(const std::vector<double>& recency_bias) {
  const int64_t widest = plan_.max_sources();
  std::vector<std::string> sublayers, bands, families;
  std::vector<int64_t> layers, blocks, counts, states, duplicates;
  std::vector<uint8_t> restarts;
  std::vector<double> schedule;
  for (int index = 0; index < static_cast<int>(plan_.sites.size()); ++index) {
    const Site& site = plan_.sites[index];
    const bool final = site.sublayer == Sublayer::final;
    sublayers.push_back(to_string(site.sublayer));
    bands.push_back(to_string(plan_.band(index)));
    layers.push_back(site.layer);
    blocks.push_back(final ? -1 : plan_.sublayers_per_block > 0 ? index / plan_.sublayers_per_block : 0);
    counts.push_back(site.num_sources());
    restarts.push_back(site.restart);
    const double bias = recency_bias.empty()       ? 0
                        : recency_bias.size() == 1 ? recency_bias[0]
                                                   : recency_bias[index];
    const ScheduleWeights expected = schedule_weights(site.num_sources(), bias);
    for (int64_t j = 0; j < widest; ++j) {
      const bool there = j < site.num_sources();
      states.push_back(there ? site.sources[j] : -1);
      duplicates.push_back(there ? site.duplicate_of[j] : -1);
      families.emplace_back(there ? to_string(site.family(static_cast<int>(j))) : "");
      schedule.push_back(!there || recency_bias.empty() ? kMissing
                         : j == site.num_sources() - 1  ? expected.current
                                                        : expected.other);
    }
  }
  const std::vector<std::string> per_site = {"/site/site"}, per_source = {"/site/site", "/site/source"};
  put(file_, "/site/layer", layers, per_site, {"1", "layer; the number of layers for the final site"});
  put(file_, "/site/sublayer", sublayers, per_site, {"", "attn, mlp or final"});
  put(file_, "/site/band", bands, per_site, {"", "depth band of the layer"});
  put(file_, "/site/block", blocks, per_site, {"1", "block the sublayer belongs to; -1 for the final site"});
  put(file_, "/site/n_sources", counts, per_site, {"1", "sources of the site"});
  put(file_, "/site/restart", restarts, per_site, {"1", "1 where the sublayer's output starts a new state"});
  put(file_, "/site/state", states, per_source, {"1", "state S_k a source is; -1 beyond n_sources"});
  put(file_, "/site/duplicate_of", duplicates, per_source,
      {"1", "first earlier source that is the same state; -1 if none"});
  put(file_, "/site/family", families, per_source, {"", "family of a source; empty beyond n_sources"});
  put(file_, "/site/schedule_weight", schedule, per_source,
      {"1", "weight by the formula of the recency schedule; missing unless the model is wrapped"});
}

void ResultsFile::write_segments(const EvalConfig& config) {
  const std::vector<std::string> axis = {"/sequence/sequence"};
  std::vector<int64_t> tokens, first;
  for (int64_t i = 0; i < sequences_.size(); ++i) {
    tokens.push_back(sequences_.tokens(i));
    first.push_back(sequences_.first_token(i));
  }
  put(file_, "/sequence/tokens", tokens, axis, {"1", "target tokens that count"});
  put(file_, "/sequence/first_token", first, axis, {"1", "place of its first token in the data"});

  const std::vector<Segment>& segments = sequences_.segments();
  const std::vector<std::string> segment = {"/segment/segment"};
  file_.group("/segment");
  file_.scale("/segment/segment", counting(static_cast<int64_t>(segments.size())),
              {"1", "number of the segment: the part of a sequence that belongs to one document"});
  const auto number = [&](const char* name, int64_t Segment::*which, const char* long_name) {
    put(file_, std::string("/segment/") + name,
        column<int64_t>(segments, [&](const Segment& s) { return s.*which; }), segment, {"1", long_name});
  };
  number("document", &Segment::document, "place in the data of the first token of its document");
  number("sequence", &Segment::sequence, "sequence it is part of");
  number("first_token", &Segment::first_token, "position in the sequence of the first token that is read");
  number("tokens", &Segment::tokens, "target tokens that count");
  put(file_, "/segment/split",
      column<std::string>(segments,
                          [&](const Segment&) { return std::string(to_string(config.data.split)); }),
      segment, {"", "split of the data its document is in"});
}

void ResultsFile::write_routing(const Results& results) {
  const size_t widest = static_cast<size_t>(plan_.max_sources()), sites = plan_.sites.size();
  std::vector<double> mean(sites * widest, kMissing), std = mean, entropy, coefficient;
  const auto outputs = outputs_of_states(plan_);
  for (size_t site = 0; site < sites; ++site) {
    std::vector<double> weights;
    for (int j = 0; j < plan_.sites[site].num_sources(); ++j) {
      const WeightMoments& moments = results.trace->moments(static_cast<int>(site), j);
      mean[site * widest + j] = moments.mean;
      std[site * widest + j] = moments.std();
      weights.push_back(moments.mean);
    }
    entropy.push_back(results.trace->entropy(static_cast<int>(site)));
    const std::vector<double> of_site = coefficients(plan_.sites[site], outputs, weights, nullptr);
    coefficient.insert(coefficient.end(), of_site.begin(), of_site.end());
  }
  const std::vector<std::string> axes = {"/routing/site", "/routing/source"};
  put(file_, "/routing/mean", mean, axes, {"1", "mean weight over tokens, clean run"});
  put(file_, "/routing/std", std, axes, {"1", "standard deviation of the weight over tokens, clean run"});
  put(file_, "/routing/entropy", entropy, {"/routing/site"},
      {"nats", "mean entropy of the weights, clean run"});
  file_.scale("/routing/output", output_names(plan_), {"", "output of a sublayer, or the embedding"});
  put(file_, "/routing/coefficient", coefficient, {"/routing/site", "/routing/output"},
      {"1", "mean factor of an output in a read: the weights of the sources that contain it, clean run"});

  file_.link("/segment/segment", "/routing/segment");
  double tokens = static_cast<double>(results.trace->tokens());
  for (size_t i = 0; i < std::size(kCleanColumns); ++i) {
    const Column& info = kCleanColumns[i];
    const std::vector<double>& sums = results.evaluation.clean.values[i];
    if (!info.has(Axis::segment) || sums.empty()) continue;
    const std::string path = std::string("/routing/") + info.name;
    put(file_, path + "_by_segment", sums, {"/routing/segment", "/routing/site", "/routing/source"},
        {info.units, info.long_name});
    if (static_cast<CleanColumn>(i) == CleanColumn::weight) continue;  // its mean is /routing/mean
    std::vector<double> means(sites * widest, 0.0);
    for (size_t at = 0; at < sums.size(); ++at) means[at % means.size()] += sums[at] / tokens;
    const std::string about = std::string("mean over tokens of the ") + info.long_name;
    put(file_, path, means, axes, {info.units, about});
  }

  for (const char* axis : {"family", "sublayer", "band"}) {
    std::vector<std::string> names_of = std::string(axis) == "family" ? names<Family>()
                                        : std::string(axis) == "sublayer"
                                            ? std::vector<std::string>{"attn", "mlp"}
                                            : names<Band>();
    file_.scale(std::string("/routing/") + axis, names_of, {"", std::string(axis) + " of sites or sources"});
  }
  std::vector<double> family_mass;
  for (const Family family : values<Family>())
    for (const Sublayer sublayer : {Sublayer::attn, Sublayer::mlp})
      for (const Band band : values<Band>())
        family_mass.push_back(results.trace->family_mass(family, sublayer, band));
  put(file_, "/routing/family_mass", family_mass, {"/routing/family", "/routing/sublayer", "/routing/band"},
      {"1", "mean over all sites of a sublayer and band of the weight on a family, 0 at a site without it"});
}

void ResultsFile::write_clean(const Results& results) {
  const CleanValues& clean = results.evaluation.clean;
  const std::vector<std::string> axes = {"/clean/sequence", "/clean/token"};
  const std::vector<double>& nll = clean[CleanColumn::nll];
  put(file_, "/clean/nll", std::vector<float>(nll.begin(), nll.end()), axes,
      {"nats/token", column_of(CleanColumn::nll).long_name});
  constexpr uint8_t kNoHit = 255;
  put(file_, "/clean/hit",
      column<uint8_t>(clean[CleanColumn::hit],
                      [](double hit) { return std::isnan(hit) ? kNoHit : static_cast<uint8_t>(hit); }),
      axes, {"1", column_of(CleanColumn::hit).long_name});
  file_.fill_value("/clean/hit", kNoHit);
  file_.link("/segment/segment", "/clean/segment");
  put(file_, "/clean/nll_by_segment", sums_by_segment(results, CleanColumn::nll), {"/clean/segment"},
      {"nats", "sum over the segment's tokens of the negative log-likelihood, clean run"});
  put(file_, "/clean/hits_by_segment", sums_by_segment(results, CleanColumn::hit), {"/clean/segment"},
      {"1", "tokens of the segment whose most likely next token is the one that follows, clean run"});
  put_estimates(file_, "/clean/mean_nll", {results.clean}, {},
                {"nats/token", "mean negative log-likelihood, clean run"}, level_);
  put(file_, "/clean/perplexity", std::vector<double>{std::exp(results.clean.value)}, {},
      {"1", "exp of the mean negative log-likelihood, clean run"});
  put(file_, "/clean/accuracy", std::vector<double>{results.accuracy}, {},
      {"1", "share of tokens whose most likely next token is the one that follows, clean run"});
}

void ResultsFile::write_known_answers(const Results& results) {
  const std::string group = "/known_answer/";
  const std::vector<std::string> axis = {"/known_answer/known_answer"};
  file_.group("/known_answer");
  const std::vector<KnownAnswer>& known = results.known_answers;
  const std::vector<Effect>& effects = results.known_answer_effects;
  file_.scale(axis[0], column<std::string>(known, [](const KnownAnswer& k) { return k.name; }),
              {"", "name of the known answer"});
  put(file_, group + "expectation",
      column<std::string>(known, [](const KnownAnswer& k) { return k.expectation; }), axis,
      {"", "what is known beforehand"});
  put(file_, group + "limit", column<double>(known, [](const KnownAnswer& k) { return k.limit; }), axis,
      {"nats", "largest_change that passes; missing where it is not judged"});
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& info = kCellColumns[i];
    if (!info.rate) continue;
    put_estimates(file_, group + info.rate, rates(effects, i), axis, {info.rate_units, info.rate_long_name},
                  level_);
  }
  put(file_, group + "largest_change",
      column<double>(effects, [](const Effect& e) { return e.largest_change; }), axis,
      {"nats", "largest |delta nll| or divergence of any token"});
  std::vector<uint8_t> passed;
  for (size_t i = 0; i < known.size(); ++i)
    passed.push_back(!known[i].judged() ? 2 : known[i].passes(effects[i].largest_change) ? 1 : 0);
  put(file_, group + "passed", passed, axis, {"1", "whether it came out as known"});
  file_.attribute(group + "passed", "flag_values", std::span<const uint8_t>(std::vector<uint8_t>{0, 1, 2}));
  file_.attribute(group + "passed", "flag_meanings", std::string("failed passed not_judged"));
  file_.attribute("/known_answer", "parameters_checksum_before", results.provenance.parameters_before);
  file_.attribute("/known_answer", "parameters_checksum_after", results.provenance.parameters_after);
  if (!results.provenance.wrapped) return;
  file_.attribute("/known_answer", "wrapper_largest_deviation", results.wrapper.largest_deviation);
  file_.attribute("/known_answer", "wrapper_largest_std", results.wrapper.largest_std);
}

}  // namespace depthroute
