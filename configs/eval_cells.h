// The names cells are made of (SPEC §1, §5), and which keys of a cell go together.
#pragma once

#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "configs/schema.h"

namespace depthroute {

const std::vector<std::string>& family_names();
const std::vector<std::string>& sublayer_names();
const std::vector<std::string>& band_names();
const std::vector<std::string>& intervention_names();
const std::vector<std::string>& planned_intervention_names();  // in SPEC §5, not in this version

/// Sets the weights of a whole site, so that there are no sources to choose: uniform, schedule.
bool is_sourceless(const std::string& intervention);
/// Some intervention of the cell takes `value`: bias, schedule.
bool uses_value(const CellConfig& cell);

/// ConfigError if keys of this entry are missing, or mean nothing together. `path` is the entry's:
/// "cells[2]".
void check_cell(const CellConfig& cell, const std::string& path, const Given& given);

}  // namespace depthroute
