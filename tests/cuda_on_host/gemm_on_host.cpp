// Matrix products of the emulated device, in place of kernels/cuda/gemm.cpp, which needs cuBLASLt and a GPU.
// Sums in float32, as there: bf16 operands are widened exactly, and a bf16 result is rounded once.
// Several algorithms differ in the order of their sums; what a clock would say of them comes from the environment.
#include <array>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <sstream>
#include <vector>

#include "configs/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm_chooser.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"
#include "tests/cuda_on_host/runtime.h"

namespace depthroute::cuda {
namespace {

float load(const Tensor& x, int64_t row, int64_t column) {
  const int64_t at = row * x.row_stride() + column;
  if (x.dtype == DType::f32) return static_cast<const float*>(x.pointer)[at];
  const uint32_t word = static_cast<uint32_t>(static_cast<const uint16_t*>(x.pointer)[at]) << 16;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

void store(const Tensor& x, int64_t row, int64_t column, float value) {
  const int64_t at = row * x.row_stride() + column;
  if (x.dtype == DType::f32) {
    static_cast<float*>(x.pointer)[at] = value;
    return;
  }
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  const bool is_nan = value != value;
  const uint32_t nearest_even = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  static_cast<uint16_t*>(x.pointer)[at] = static_cast<uint16_t>(is_nan ? 0x7fc0 : nearest_even);
}

/// op(x) as float32 [rows, columns], contiguous.
std::vector<float> dense(const Tensor& x, bool transpose) {
  const int64_t rows = transpose ? x.cols() : x.rows(), columns = transpose ? x.rows() : x.cols();
  std::vector<float> result(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      result[static_cast<size_t>(r * columns + c)] = transpose ? load(x, c, r) : load(x, r, c);
  return result;
}

/// The algorithms: in how many partial sums, the first much as on a GPU. Each gives bits of its own.
constexpr std::array<uint8_t, 4> kLanes = {16, 1, 4, 8};
constexpr size_t kMostLanes = 16;

float dot(uint8_t lanes, int64_t count, const float* x, const float* y) {
  std::array<float, kMostLanes> sums{};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += x[i + lane] * y[i + lane];
  float sum = 0;
  for (; i < count; ++i) sum += x[i] * y[i];
  for (float lane : std::span(sums).first(lanes)) sum += lane;
  return sum;
}

void multiply(uint8_t lanes, bool transpose_a, bool transpose_b, const Tensor& a, const Tensor& b, float beta,
              const Tensor& c) {
  const std::vector<float> left = dense(a, transpose_a);    // [m, k]
  const std::vector<float> right = dense(b, !transpose_b);  // [n, k]
  const int64_t m = c.rows(), n = c.cols(), k = transpose_a ? a.rows() : a.cols();
  for (int64_t row = 0; row < m; ++row)
    for (int64_t column = 0; column < n; ++column) {
      const float before = beta == 0.0f ? 0.0f : beta * load(c, row, column);
      store(c, row, column, before + dot(lanes, k, left.data() + row * k, right.data() + column * k));
    }
}

std::string text_of(uint8_t lanes) { return to_hex(std::as_bytes(std::span(&lanes, 1))); }

std::optional<uint8_t> lanes_of(const std::string& algorithm) {
  for (const uint8_t lanes : kLanes)
    if (algorithm == text_of(lanes)) return lanes;
  return std::nullopt;
}

std::string from_environment(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value ? value : otherwise;
}

/// What the clock would say, from the environment (README.md): "5,3,x,4;1,1,1,1" is four algorithms' times on
/// device 0 and on device 1; x fails.
double stand_in_microseconds(int device, const std::string& algorithm) {
  std::istringstream devices(from_environment("CUDA_ON_HOST_GEMM_MICROSECONDS", ""));
  std::string times, time;
  for (int i = 0; i <= device; ++i)
    if (!std::getline(devices, times, ';')) return 1;
  std::istringstream list(times);
  for (const uint8_t lanes : kLanes) {
    if (!std::getline(list, time, ',')) return 1;
    if (algorithm == text_of(lanes))
      return time == "x" ? std::numeric_limits<double>::infinity() : std::stod(time);
  }
  return 1;
}

int current_device() {
  int device = 0;
  DR_CUDA_CHECK(cudaGetDevice(&device));
  return device;
}

GemmChooser& chooser_of_current_device() {
  static auto& all = *new std::map<int, GemmChooser>;
  return all[current_device()];
}

}  // namespace

std::string describe_blas() { return "plain loops " + from_environment("CUDA_ON_HOST_BLAS_VERSION", "1"); }

void reserve_blas(Stream stream) { DR_CHECK(stream.device == Device::cuda); }

GemmContext gemm_context() { return {"emulated", describe_blas(), 0}; }

GemmChoices tune_gemm(const std::function<void()>& body) {
  GemmChooser& chooser = chooser_of_current_device();
  chooser.begin_tuning();
  body();
  chooser.end_tuning();
  return chooser.choices();
}

void use_gemm_choices(const GemmChoices& choices) {
  for (const auto& [product, choice] : choices)
    if (!lanes_of(choice.algorithm))
      throw DataError("{} do not accept the algorithm for {}", describe_blas(), to_string(product));
  chooser_of_current_device().use(choices);
}

void gemm(Stream stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const bool transpose_a = op_a == Transpose::yes, transpose_b = op_b == Transpose::yes;
  const auto is_act = [](DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; };
  DR_CHECK(a.device == Device::cuda && b.device == Device::cuda && c.device == Device::cuda);
  DR_CHECK(is_act(a.dtype) && b.dtype == a.dtype && (c.dtype == a.dtype || c.dtype == DType::f32));
  DR_CHECK(beta == 0.0f || beta == 1.0f);
  const int64_t k = transpose_a ? a.rows() : a.cols();
  DR_CHECK((transpose_a ? a.cols() : a.rows()) == c.rows() &&
           (transpose_b ? b.rows() : b.cols()) == c.cols());
  DR_CHECK(k > 0 && (transpose_b ? b.cols() : b.rows()) == k);
  for (const Tensor& x : {a, b, c}) DR_CHECK(x.row_stride() >= x.cols());
  const GemmProduct product{.m = c.rows(),
                            .n = c.cols(),
                            .k = k,
                            .transpose_a = transpose_a,
                            .transpose_b = transpose_b,
                            .accumulate = beta == 1.0f,
                            .operands = a.dtype,
                            .result = c.dtype,
                            .a_stride = a.row_stride(),
                            .b_stride = b.row_stride(),
                            .c_stride = c.row_stride(),
                            .a_alignment = 16,
                            .b_alignment = 16,
                            .c_alignment = 16};
  const auto candidates = [] {
    std::vector<std::string> texts;
    for (const uint8_t lanes : kLanes) texts.push_back(text_of(lanes));
    return texts;
  };
  const auto compute = [&](uint8_t lanes) {
    DR_CUDA_CHECK(emulator::run_or_record(handle(stream),
                                          [=] { multiply(lanes, transpose_a, transpose_b, a, b, beta, c); }));
  };
  const auto time = [&](const std::string& algorithm) {
    compute(lanes_of(algorithm).value());
    return stand_in_microseconds(current_device(), algorithm);
  };
  const std::string chosen = chooser_of_current_device().choose(product, candidates, time);
  compute(chosen.empty() ? kLanes[0] : lanes_of(chosen).value());
}

}  // namespace depthroute::cuda
