// The parts of a token stream that an evaluation may measure on. The stream is cut, where documents begin, into
// blocks of about 8 windows or more, and whole blocks are dealt to the splits: no document is in two of them.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/eval_config.h"
#include "data/tokens/token_stream.h"

namespace depthroute {

/// Tokens [begin, end) of the stream. Begins with a document's first token, if there are documents.
struct Block {
  int64_t begin = 0, end = 0;
  /// Windows of seq_len + 1 tokens at stride seq_len that fit.
  int64_t windows(int64_t seq_len) const { return end - begin < 1 ? 0 : (end - begin - 1) / seq_len; }
};

/// The blocks of `split`, in stream order; the whole stream for Split::all. They depend on data.seed, on
/// data.seq_len and on the tokens, not on which sequences are chosen. ConfigError if there are fewer blocks than
/// splits with a share.
std::vector<Block> blocks_of(const TokenStream& stream, const EvalDataConfig& data,
                             const SplitsConfig& shares, Split split);

/// The documents of `split` among `count` of a task, ascending; all of them for Split::all. A permutation that
/// data.seed decides deals them out by the shares, as it does with blocks. ConfigError likewise.
std::vector<int64_t> task_documents_of(int64_t count, uint64_t seed, const SplitsConfig& shares, Split split);

}  // namespace depthroute
