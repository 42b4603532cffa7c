// Megatron-LM's indexed datasets (megatron/core/datasets/indexed_dataset.py): NAME.bin holds tokens and
// nothing else; NAME.idx says which type they have, and where sequences and documents begin.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/files.h"
#include "data/tokens/token_type.h"

namespace depthroute {

/// The .idx, mapped and checked entry by entry.
class MegatronIndex {
 public:
  /// Whether a file that begins with `bytes` is such an index.
  static bool starts(std::span<const std::byte> bytes);

  /// `file`: the map of `path`, which starts() as an index. DataError for an index that is damaged, holds no
  /// token ids, or is of another version.
  MegatronIndex(const std::string& path, MappedFile file);

  const MappedFile& file() const { return file_; }
  TokenType type() const { return type_; }
  int64_t num_tokens() const { return num_tokens_; }
  /// The first position, at least `position`, that a document with tokens begins at; num_tokens() if there is
  /// none.
  int64_t next_document(int64_t position) const;
  /// Where the document begins that holds the token at `position`.
  int64_t document_of(int64_t position) const;

 private:
  template <typename T>
  T load(int64_t offset) const;
  [[noreturn]] void fail(const std::string& fault) const;
  void read_header();
  void check_sequences();
  void check_documents() const;
  /// Position of the first token of a sequence, which may be the one after the last.
  int64_t sequence_start(int64_t sequence) const;
  /// The sequence that a document begins with; a document may be empty.
  int64_t first_sequence(int64_t document) const;
  /// How many documents begin before `position`.
  int64_t documents_before(int64_t position) const;

  std::string path_;
  MappedFile file_;
  TokenType type_ = TokenType::int32;
  int64_t sequences_ = 0, boundaries_ = 0;  // boundaries: of documents, one more than there are
  int64_t lengths_at_ = 0, pointers_at_ = 0, documents_at_ = 0;  // bytes from the file's start, unaligned
  int64_t num_tokens_ = 0;
};

/// "NAME.bin" for "NAME.idx". DataError if the name does not end so.
std::string megatron_bin_path(const std::string& index_path);

}  // namespace depthroute
