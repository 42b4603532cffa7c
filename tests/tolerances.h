// Every tolerance a test uses, by dtype and kind. Loosen a number only here, with its reason.
#pragma once

namespace depthroute::tolerance {

// float32 kernels against float64 loops: |a - b| <= atol + rtol * |b| per element, or the relative L2 distance
// of the whole tensor.
inline constexpr double kF32Forward = 1e-6;   // relative L2
inline constexpr double kF32Backward = 1e-5;  // relative L2
// Weights, inverse RMS, log-sum-exp.
inline constexpr double kF32Statistics = 2e-5;

// bf16 kernels against float64 loops on the same bf16 inputs. What is kept in float32 (statistics, gradients of
// parameters) has the tolerances above, since its arithmetic is float32 throughout.
// Relative L2: each value is rounded once, by at most 2^-9 of itself.
inline constexpr double kBf16Output = 3e-3;
// Relative L2, where something rounded to bf16 (h, a gradient that grows) is computed with again.
inline constexpr double kBf16Backward = 5e-3;

// Relative L2: central differences, in float64, of the float64 loop.
inline constexpr double kFiniteDifference = 1e-3;

// The output head in training, whose logits are bf16, by their standard deviation: root mean square error of a
// token's nll, in nats, and relative L2 of the gradients. Seen: 1.7e-4, 1.9e-3, 7.4e-3 and (of hidden) 2.0e-3, 2.7e-3,
// 6.3e-3; in a simulation, float32 logits give 2.0e-3, 2.1e-3, 2.3e-3.
struct Bf16Head {
  double deviation, nll, gradient;
};
inline constexpr Bf16Head kBf16Head[] = {{1, 4e-4, 3e-3}, {2, 3e-3, 4e-3}, {4, 1.2e-2, 8e-3}};

// Golden cases (tests/golden/README.md).
inline constexpr double kGoldenLoss = 1e-5;  // absolute, nats
// Relative L2 per tensor; the scalar biases together as one tensor, since one alone is a sum over tokens that
// may cancel.
inline constexpr double kGoldenGradient = 1e-4;
// Norms below this are zeros in exact arithmetic (float64 noise).
inline constexpr double kGoldenZero = 1e-15;
// Absolute, root mean square over a site's weights.
inline constexpr double kGoldenWeights = 1e-6;
// Absolute, one weight: late sites inherit the states' rounding.
inline constexpr double kGoldenWeight = 1e-5;
// Ablated runs, per token, relative to max(1, nll), in nats. Without a dominant source a small mixture remains,
// and the RMSNorm that follows magnifies its float32 rounding. Four of 11520 values need this; each cell's mean
// keeps kGoldenLoss.
inline constexpr double kGoldenAblatedNll = 5e-5;

// Models of other programs (tests/interop/README.md), per token, in nats: float32 there and here, and weights of
// several times the usual size.
inline constexpr double kInteropNll = 1e-4;

// Golden cases in bf16: the mean loss in nats; gradients as a multiple of what rounding the matrices alone does
// (0.9 to 1.9 seen).
inline constexpr double kBf16GoldenLoss = 0.02;
inline constexpr double kBf16GoldenFactor = 3;

// One pass at a production shape (tests/gpu/shape_check.h): a device in bf16 against float32 on the CPU, with the
// same rounded matrices. The emulated device at 28 layers, 64 wide, had a tenth to a sixth of these; sequences of
// 16 to 384 tokens made no difference.
inline constexpr double kShapeFirstLoss = 0.5;   // nats from ln V: fresh logits have a variance of about 0.4
inline constexpr double kShapeLoss = 2e-3;       // nats
inline constexpr double kShapeNorm = 5e-3;       // relative, of the whole gradient
inline constexpr double kShapeDirection = 3e-3;  // 1 - cosine, per parameter
inline constexpr double kShapeRoutingDirection = 5e-3;  // likewise, of the reads' parameters
// The same sequences at once and singly: relative distance of the gradients, and in float32 of the loss too. In
// bf16 the distance is at most that of two independent roundings: sqrt(2 * 2 * 1e-4) for most parameters.
inline constexpr double kShapeSumBf16 = 0.02;
inline constexpr double kShapeSumFloat = 1e-4;

}  // namespace depthroute::tolerance
