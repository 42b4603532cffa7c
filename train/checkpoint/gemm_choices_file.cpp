#include "train/checkpoint/gemm_choices_file.h"

#include <cmath>
#include <span>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"

namespace depthroute {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kVersion = 1;
constexpr size_t kMostContexts = 1000, kMostProducts = 10'000, kMostDigits = 4096;
constexpr int64_t kMostSize = int64_t{1} << 40;

std::string checksum_of(const json& contexts) {
  const std::string text = contexts.dump(-1, ' ', false, json::error_handler_t::replace);
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

[[noreturn]] void refuse(const std::string& what) { throw DataError(what); }

int64_t integer(const json& object, const char* key, int64_t least, int64_t most) {
  const json& value = object.at(key);
  if (value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)) {
    const auto number = value.get<int64_t>();
    if (number >= least && number <= most) return number;
  }
  refuse(fmt::format("{} is {}, not an integer from {} to {}", key, describe(value), least, most));
}

double time(const json& object, const char* key, bool may_be_absent) {
  const json& value = object.at(key);
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (std::isfinite(number) && (number >= 0 || may_be_absent)) return number;
  }
  refuse(fmt::format("{} is {}, not a time", key, describe(value)));
}

DType dtype(const json& object, const char* key) {
  const json& value = object.at(key);
  for (const DType one : {DType::f32, DType::bf16})
    if (value == to_string(one)) return one;
  refuse(fmt::format("{} is {}, not f32 or bf16", key, describe(value)));
}

const json& array(const json& object, const char* key, size_t most) {
  const json& value = object.at(key);
  if (!value.is_array() || value.size() > most)
    refuse(fmt::format("{} is not a list of at most {} entries", key, most));
  return value;
}

const json& three(const json& object, const char* key) {
  if (array(object, key, 3).size() != 3) refuse(fmt::format("{} does not have three entries", key));
  return object.at(key);
}

int64_t one_of_three(const json& object, const char* key, size_t index, int64_t least, int64_t most) {
  return integer(json{{key, three(object, key)[index]}}, key, least, most);
}

std::pair<GemmProduct, GemmChoice> product_from_json(const json& object) {
  GemmProduct p;
  p.m = integer(object, "m", 1, kMostSize);
  p.n = integer(object, "n", 1, kMostSize);
  p.k = integer(object, "k", 1, kMostSize);
  object.at("transpose_a").get_to(p.transpose_a);
  object.at("transpose_b").get_to(p.transpose_b);
  object.at("accumulate").get_to(p.accumulate);
  p.operands = dtype(object, "operands");
  p.result = dtype(object, "result");
  p.a_stride = one_of_three(object, "strides", 0, p.transpose_a ? p.m : p.k, kMostSize);
  p.b_stride = one_of_three(object, "strides", 1, p.transpose_b ? p.k : p.n, kMostSize);
  p.c_stride = one_of_three(object, "strides", 2, p.n, kMostSize);
  int64_t* const alignments[] = {&p.a_alignment, &p.b_alignment, &p.c_alignment};
  for (size_t i = 0; i < 3; ++i) {
    *alignments[i] = one_of_three(object, "alignments", i, 1, 16);
    if ((*alignments[i] & (*alignments[i] - 1)) != 0)
      refuse("alignments holds a number that is no power of two");
  }
  GemmChoice choice;
  object.at("algorithm").get_to(choice.algorithm);
  if (choice.algorithm.empty() || choice.algorithm.size() > kMostDigits || choice.algorithm.size() % 2 != 0 ||
      choice.algorithm.find_first_not_of("0123456789abcdef") != std::string::npos)
    refuse(fmt::format("algorithm is {}, not bytes in hexadecimal", quote(choice.algorithm)));
  choice.candidates = integer(object, "candidates", 1, 1000);
  choice.rank = integer(object, "rank", 0, choice.candidates - 1);
  choice.microseconds = time(object, "microseconds", false);
  choice.first_microseconds = time(object, "first_microseconds", true);
  return {p, choice};
}

StoredGemmChoices context_from_json(const json& object) {
  StoredGemmChoices stored;
  object.at("device").get_to(stored.context.device);
  object.at("library").get_to(stored.context.library);
  stored.context.workspace_bytes = integer(object, "workspace_bytes", 0, kMostSize);
  for (const json& product : array(object, "products", kMostProducts)) {
    const auto entry = product_from_json(product);
    if (!stored.choices.insert(entry).second) refuse(fmt::format("holds {} twice", to_string(entry.first)));
  }
  return stored;
}

ordered_json to_json(const GemmProduct& p, const GemmChoice& choice) {
  return {{"m", p.m},
          {"n", p.n},
          {"k", p.k},
          {"transpose_a", p.transpose_a},
          {"transpose_b", p.transpose_b},
          {"accumulate", p.accumulate},
          {"operands", to_string(p.operands)},
          {"result", to_string(p.result)},
          {"strides", {p.a_stride, p.b_stride, p.c_stride}},
          {"alignments", {p.a_alignment, p.b_alignment, p.c_alignment}},
          {"algorithm", choice.algorithm},
          {"rank", choice.rank},
          {"candidates", choice.candidates},
          {"microseconds", choice.microseconds},
          {"first_microseconds", choice.first_microseconds}};
}

}  // namespace

std::string gemm_choices_to_json(const std::vector<StoredGemmChoices>& stored) {
  ordered_json contexts = ordered_json::array();
  for (const StoredGemmChoices& one : stored) {
    ordered_json products = ordered_json::array();
    for (const auto& [product, choice] : one.choices) products.push_back(to_json(product, choice));
    contexts.push_back({{"device", one.context.device},
                        {"library", one.context.library},
                        {"workspace_bytes", one.context.workspace_bytes},
                        {"products", products}});
  }
  // Parsed again: what is read has its keys in another order.
  const std::string checksum = checksum_of(json::parse(contexts.dump()));
  return ordered_json{{"version", kVersion}, {"checksum", checksum}, {"contexts", contexts}}.dump(1) + "\n";
}

std::vector<StoredGemmChoices> gemm_choices_from_json(const std::string& text, const std::string& where) {
  std::vector<StoredGemmChoices> stored;
  std::string problem;
  const json root = parse_json_object(text, where);
  try {
    if (root.at("version") != kVersion)
      refuse(fmt::format("version is {}, this program knows {}", describe(root.at("version")), kVersion));
    if (root.at("checksum") != checksum_of(root.at("contexts")))
      refuse("the checksum does not fit: it was changed");
    for (const json& context : array(root, "contexts", kMostContexts)) {
      stored.push_back(context_from_json(context));
      for (size_t i = 0; i + 1 < stored.size(); ++i)
        if (stored[i].context == stored.back().context)
          refuse(fmt::format("holds {} with {} twice", quote(stored[i].context.device),
                             quote(stored[i].context.library)));
    }
    return stored;
  } catch (const json::exception& error) {
    problem = json_error_text(error);
  } catch (const DataError& error) {
    problem = error.what();
  }
  throw DataError("{}: {}: restore it, or remove it to time the products again, which may change bits", where,
                  problem);
}

std::vector<StoredGemmChoices> read_gemm_choices(const std::string& path) {
  if (!exists(path)) return {};
  return gemm_choices_from_json(read_file(path), path);
}

}  // namespace depthroute
