// The kernels over rows of logits. cross_entropy_chunks.cpp computes the logits, and the gradients of hidden
// and head.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace depthroute::cuda {

/// Logits of `count` rows, `vocab` values each; rows are `stride` values apart, a multiple of 8 and at least
/// vocab. The padding may hold anything, and is overwritten whenever a row is.
struct LogitRows {
  int64_t count, vocab, stride;
};

/// nll[i] = logsumexp(row i) - logit[targets[i]]; 0 if the target is -1, NaN if it is not a class. With
/// `gradient`, scale (softmax - [target]) overwrites the logits. `type` is theirs: f32, or bf16, where the
/// target's logit is computed again in float32 from hidden [count,D] and head [vocab,D], both bf16, and takes the
/// place of the rounded one: in the sum, too, so that nll >= 0 and the gradient adds up to 0.
void cross_entropy_rows(cudaStream_t, const LogitRows&, DType type, void* logits, const Tensor& hidden,
                        const Tensor& head, const int32_t* targets, float scale, float* nll, bool gradient);

/// For each row, with p from `clean` and p' from `other`, both f32:
/// nll of p', kl = KL(p || p'), flipped = different argmax, hit = argmax p' is the target. All are 0 if the
/// target is -1; if it is not a class, nll is NaN.
void cross_entropy_compare_rows(cudaStream_t, const LogitRows&, const float* clean, const float* other,
                                const int32_t* targets, float* nll, float* kl, int32_t* flipped,
                                int32_t* hit);

}  // namespace depthroute::cuda
