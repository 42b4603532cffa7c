#include "eval/sequences/documents.h"

#include <algorithm>

#include "configs/base/check.h"

namespace depthroute {
namespace {

constexpr int64_t kChunkTokens = int64_t{1} << 16;
constexpr int64_t kFirstStepBack = 1024;

}  // namespace

Documents::Documents(const TokenStream& stream, const std::vector<int64_t>& separator)
    : stream_(stream),
      separator_(separator.begin(), separator.end()),
      from_(!separator.empty()         ? DocumentsFrom::separator
            : stream.knows_documents() ? DocumentsFrom::shards
                                       : DocumentsFrom::none) {}

std::vector<int32_t> Documents::read(int64_t begin, int64_t end) const {
  std::vector<int32_t> tokens(static_cast<size_t>(end - begin));
  stream_.read(begin, tokens);
  return tokens;
}

// In a run such as "5 5 5 5", with the separator "5 5", where one occurrence ends decides where the next may
// begin. So goes back from occurrence to occurrence until there is none to overlap with.
int64_t Documents::synchronised(int64_t known, int64_t position) const {
  const int64_t length = static_cast<int64_t>(separator_.size());
  while (position > known && length > 1) {
    const int64_t begin = std::max(known, position - length + 1);
    const std::vector<int32_t> tokens = read(begin, std::min(position + length - 1, stream_.num_tokens()));
    const auto found = std::search(tokens.begin(), tokens.end(), separator_.begin(), separator_.end());
    if (found == tokens.end()) return position;
    position = begin + (found - tokens.begin());
  }
  return position;
}

void Documents::for_each_start(int64_t known, int64_t begin, int64_t end,
                               const std::function<bool(int64_t)>& visit) const {
  DR_CHECK(this->known() && known <= begin && end <= stream_.num_tokens());
  if (from_ == DocumentsFrom::separator) return for_each_separated(known, begin, end, visit);
  for (int64_t start = std::max<int64_t>(1, begin);; ++start) {
    if (start < end) start = stream_.next_document(start);
    if (start >= end || !visit(start)) return;
  }
}

void Documents::for_each_separated(int64_t known, int64_t begin, int64_t end,
                                   const std::function<bool(int64_t)>& visit) const {
  const int64_t length = static_cast<int64_t>(separator_.size());
  int64_t at = synchronised(known, std::max(known, begin - length));
  while (at + length < end) {
    const std::vector<int32_t> tokens = read(at, std::min(at + kChunkTokens + length, end - 1));
    auto next = tokens.begin();
    for (;;) {
      const auto found = std::search(next, tokens.end(), separator_.begin(), separator_.end());
      if (found == tokens.end()) break;
      next = found + length;
      const int64_t start = at + (next - tokens.begin());
      if (start >= begin && !visit(start)) return;
    }
    // An occurrence may begin in this chunk and end in the next one.
    at += std::max<int64_t>(next - tokens.begin(), static_cast<int64_t>(tokens.size()) - length + 1);
  }
}

int64_t Documents::first_start(int64_t known, int64_t begin, int64_t end) const {
  int64_t first = end;
  for_each_start(known, begin, end, [&](int64_t start) {
    first = start;
    return false;
  });
  return first;
}

int64_t Documents::start_of(int64_t position, int64_t known, int64_t floor) const {
  DR_CHECK(this->known() && known <= floor && floor <= position);
  if (from_ == DocumentsFrom::shards) return stream_.document_of(position);
  int64_t end = position + 1, step = kFirstStepBack;
  while (end > floor + 1) {
    const int64_t begin = std::max(floor + 1, end - step);
    int64_t last = -1;
    for_each_start(known, begin, end, [&](int64_t start) {
      last = start;
      return true;
    });
    if (last >= 0) return last;
    end = begin;
    step *= 2;
  }
  return known;
}

}  // namespace depthroute
