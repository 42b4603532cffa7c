#include "eval/analysis/findings.h"

#include <algorithm>

namespace depthroute {

Provenance Provenance::without_units() const {
  Provenance same = *this;
  same.parameters_before = same.parameters_after = same.precision = "";
  same.devices.clear();
  return same;
}

void Provenance::add_device(const std::string& device) {
  if (std::find(devices.begin(), devices.end(), device) == devices.end()) devices.push_back(device);
}

void Provenance::add_parameters_after(const std::string& checksum) {
  if (parameters_after.empty() || parameters_after == parameters_before) parameters_after = checksum;
}

bool Results::known_answers_pass() const {
  for (size_t i = 0; i < known_answers.size(); ++i)
    if (!known_answers[i].passes(
            outcome_of(comparison_of_known_answer, i)[CellColumn::largest_change].front()))
      return false;
  return provenance.parameters_before == provenance.parameters_after;
}

}  // namespace depthroute
