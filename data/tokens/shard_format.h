// Opening a file of tokens in any format that is known, chosen by its first bytes. Inside data/tokens.
#pragma once

#include <optional>
#include <string>

#include "data/files.h"
#include "data/tokens/megatron_index.h"
#include "data/tokens/token_type.h"

namespace depthroute {

struct OpenShard {
  MappedFile file;        // that holds the tokens, from byte `tokens_at` to its end
  int64_t tokens_at = 0;  // a multiple of the token's size
  TokenType type = TokenType::uint16;
  int64_t num_tokens = 0;
  std::string file_path;
  std::optional<MegatronIndex> index;  // of a Megatron-LM dataset
};

/// Checks everything that header or index claim against the file. DataError naming file, what is wrong and
/// what to do.
OpenShard open_shard(const std::string& path);

}  // namespace depthroute
