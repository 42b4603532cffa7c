// One pass over rows of logits; cross_entropy_chunks.cpp makes the logits and what follows from their
// gradient.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace depthroute::cuda {

/// Logits of `count` rows, f32, `vocab` values each; rows are `stride` values apart, a multiple of 8 that is
/// at least vocab. What lies between may be anything, and is overwritten where a row is.
struct LogitRows {
  int64_t count, vocab, stride;
};

/// nll[i] = logsumexp(row i) - logit[targets[i]], 0 where the target is -1, NaN where it is no class.
/// `gradient`, if given, = scale (softmax - [target]), of type `gradient_type`, with the logits' stride; as
/// f32 it may be the logits themselves.
void cross_entropy_rows(cudaStream_t, const LogitRows&, const float* logits, const int32_t* targets,
                        float scale, float* nll, DType gradient_type, void* gradient);

/// Of each row, p from `clean` and p' from `other`: nll by p', kl = KL(p || p'), flipped = different argmax.
void cross_entropy_compare_rows(cudaStream_t, const LogitRows&, const float* clean, const float* other,
                                const int32_t* targets, float* nll, float* kl, int32_t* flipped);

}  // namespace depthroute::cuda
