// Every tolerance a test uses, by dtype and kind (DESIGN §7). A number is only loosened here, with its
// reason.
#pragma once

namespace depthroute::tolerance {

// float32 kernels against float64 loops: |a - b| <= atol + rtol * |b| per element, or relative L2 of the
// whole tensor.
inline constexpr double kF32Forward = 1e-6;     // relative L2
inline constexpr double kF32Backward = 1e-5;    // relative L2
inline constexpr double kF32Statistics = 2e-5;  // weights, inverse RMS, log-sum-exp
// bf16 kernels against float64 loops on the same bf16 inputs: what is kept in float32 (statistics, gradients
// of parameters) has the tolerances above, since their arithmetic is float32 throughout.
inline constexpr double kBf16Output =
    3e-3;  // relative L2: each value rounded once, by at most 2^-9 of itself
inline constexpr double kBf16Backward =
    5e-3;  // relative L2, where something rounded to bf16 (h, a gradient that grows) is computed with again
inline constexpr double kFiniteDifference =
    1e-3;  // relative L2, central differences in float64 of the float64 loop

// Golden cases (SPEC §7).
inline constexpr double kGoldenLoss = 1e-5;  // absolute, nats
inline constexpr double kGoldenGradient =
    1e-4;  // relative L2 per tensor; the scalar biases together as one tensor,
           // since one alone is a sum over tokens that may cancel
inline constexpr double kGoldenZero =
    1e-15;  // norms below this are zeros in exact arithmetic (float64 noise)
inline constexpr double kGoldenWeights = 1e-6;  // absolute, root mean square over a site's weights
inline constexpr double kGoldenWeight =
    1e-5;  // absolute, one weight: late sites inherit the states' rounding
// Ablated runs, per token: taking a dominant source away leaves a small mixture, and what float32 rounded in
// it is magnified by the RMSNorm that follows. Four of 11520 values need it; each cell's mean keeps
// kGoldenLoss.
inline constexpr double kGoldenAblatedNll = 5e-5;  // relative to max(1, nll), nats

// Golden cases in bf16: the mean loss in nats; gradients, times what rounding the matrices alone does (0.9 to
// 1.9 seen).
inline constexpr double kBf16GoldenLoss = 0.02;
inline constexpr double kBf16GoldenFactor = 3;

}  // namespace depthroute::tolerance
