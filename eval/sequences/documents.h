// Where documents begin in a token stream. With a separator, a token or a sequence of tokens, a document ends
// with it; the next token begins another. Occurrences of the separator do not overlap: they are taken from
// the start of the stream onwards, and each answer here is the same as if all of it had been read. Without a
// separator, documents begin where the stream's shards say (TokenStream::knows_documents()); otherwise
// nothing is known.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "configs/terms.h"
#include "data/tokens/token_stream.h"

namespace depthroute {

/// Reads only what an answer needs, in chunks. The stream must outlive it.
class Documents {
 public:
  Documents(const TokenStream& stream, const std::vector<int64_t>& separator);

  DocumentsFrom from() const { return from_; }
  /// Whether documents are known. If not, nothing below may be called.
  bool known() const { return from_ != DocumentsFrom::none; }
  /// Calls visit(start) for every document that starts in [begin, end), in order, until it returns false. The
  /// start of the stream is not visited. `known`, at most `begin`: the start of some document.
  void for_each_start(int64_t known, int64_t begin, int64_t end,
                      const std::function<bool(int64_t)>& visit) const;
  /// The first start in [begin, end); `end` if there is none.
  int64_t first_start(int64_t known, int64_t begin, int64_t end) const;
  /// The start of the document that `position` is in. `known` is that of the position `floor`, which is at
  /// most `position`. Reads backwards and never before `floor`, but for the length of a separator.
  int64_t start_of(int64_t position, int64_t known, int64_t floor) const;

 private:
  void for_each_separated(int64_t known, int64_t begin, int64_t end,
                          const std::function<bool(int64_t)>& visit) const;
  /// The last position from `known` to `position` that lies inside no occurrence of the separator that begins
  /// before it.
  int64_t synchronised(int64_t known, int64_t position) const;
  std::vector<int32_t> read(int64_t begin, int64_t end) const;

  const TokenStream& stream_;
  std::vector<int32_t> separator_;
  DocumentsFrom from_;
};

}  // namespace depthroute
