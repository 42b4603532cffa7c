// The kernels over rows of logits. cross_entropy_chunks.cpp computes the logits, and the gradients of hidden
// and head.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace depthroute::cuda {

/// Logits of `count` rows, f32, `vocab` values each; rows are `stride` values apart, a multiple of 8 and at
/// least vocab. The padding may hold anything, and is overwritten whenever a row is.
struct LogitRows {
  int64_t count, vocab, stride;
};

/// nll[i] = logsumexp(row i) - logit[targets[i]]; 0 if the target is -1, NaN if it is not a class.
/// `gradient`, unless null, = scale (softmax - [target]), of dtype `gradient_type`, with the logits' stride;
/// if f32, it may be the logits themselves.
void cross_entropy_rows(cudaStream_t, const LogitRows&, const float* logits, const int32_t* targets,
                        float scale, float* nll, DType gradient_type, void* gradient);

/// For each row, with p from `clean` and p' from `other`:
/// nll of p', kl = KL(p || p'), flipped = different argmax, hit = argmax p' is the target. All are 0 if the
/// target is -1; if it is not a class, nll is NaN.
void cross_entropy_compare_rows(cudaStream_t, const LogitRows&, const float* clean, const float* other,
                                const int32_t* targets, float* nll, float* kl, int32_t* flipped,
                                int32_t* hit);

}  // namespace depthroute::cuda
