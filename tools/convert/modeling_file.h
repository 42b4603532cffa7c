// The modelling file for transformers (modeling_depthroute.py), which the program carries with it.
#pragma once

namespace depthroute {

inline constexpr const char* kModelingName = "modeling_depthroute.py";
extern const char* const kModelingText;

}  // namespace depthroute
