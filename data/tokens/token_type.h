// The integer types that token shards hold.
#pragma once

#include <cstdint>
#include <utility>

#include "configs/base/check.h"

namespace depthroute {

enum class TokenType : uint8_t { uint8, int8, uint16, int16, uint32, int32, int64 };

/// Calls visit(T{}) with the C++ type that `type` stands for.
template <typename Visit>
auto with_token_type(TokenType type, Visit&& visit) {
  switch (type) {
    case TokenType::uint8:
      return visit(uint8_t{});
    case TokenType::int8:
      return visit(int8_t{});
    case TokenType::uint16:
      return visit(uint16_t{});
    case TokenType::int16:
      return visit(int16_t{});
    case TokenType::uint32:
      return visit(uint32_t{});
    case TokenType::int32:
      return visit(int32_t{});
    case TokenType::int64:
      return visit(int64_t{});
  }
  check_failed("type", __FILE__, __LINE__, "no such token type");
}

inline int bytes_of(TokenType type) {
  return with_token_type(type, [](auto token) { return static_cast<int>(sizeof(token)); });
}

}  // namespace depthroute
