// Reads the golden cases (tests/golden/README.md): a model folder plus expected.h5, all float64.
#pragma once

#include <hdf5.h>
#include <hdf5_hl.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "configs/base/check.h"
#include "tests/support/paths.h"

namespace depthroute::golden {

inline const char* const kCases[] = {"additive", "cumulative", "cumulative_full",       "reset",
                                     "kimi",     "kimi_full",  "cumulative_no_qk_norm", "llama"};

inline std::string folder(const std::string& name) { return test_paths::golden() + "/" + name; }

class Expected {
 public:
  explicit Expected(const std::string& name)
      : file_(H5Fopen((folder(name) + "/expected.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
    DR_CHECK(file_ >= 0);
  }
  Expected(const Expected&) = delete;
  Expected& operator=(const Expected&) = delete;
  ~Expected() { H5Fclose(file_); }

  bool has(const std::string& path) const { return H5LTpath_valid(file_, path.c_str(), 1) > 0; }

  std::vector<int64_t> shape(const std::string& path) const {
    int rank = 0;
    DR_CHECK(H5LTget_dataset_ndims(file_, path.c_str(), &rank) >= 0);
    std::vector<hsize_t> extents(rank);
    DR_CHECK(H5LTget_dataset_info(file_, path.c_str(), extents.data(), nullptr, nullptr) >= 0);
    return {extents.begin(), extents.end()};
  }

  std::vector<double> read(const std::string& path) const {
    std::vector<double> values(count(path));
    DR_CHECK(H5LTread_dataset_double(file_, path.c_str(), values.data()) >= 0);
    return values;
  }

  std::vector<int32_t> read_int(const std::string& path) const {
    std::vector<int32_t> values(count(path));
    DR_CHECK(H5LTread_dataset_int(file_, path.c_str(), values.data()) >= 0);
    return values;
  }

  double attribute(const std::string& path, const std::string& name) const {
    double value = 0;
    DR_CHECK(H5LTget_attribute_double(file_, path.c_str(), name.c_str(), &value) >= 0);
    return value;
  }

 private:
  size_t count(const std::string& path) const {
    size_t product = 1;
    for (int64_t extent : shape(path)) product *= static_cast<size_t>(extent);
    return product;
  }

  hid_t file_;
};

/// ||a - b|| / ||b||, or ||a|| where b is zero.
template <typename A>
double relative_l2(const A* a, const double* b, size_t count) {
  double difference = 0, reference = 0;
  for (size_t i = 0; i < count; ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    reference += b[i] * b[i];
  }
  return std::sqrt(reference > 0 ? difference / reference : difference);
}

}  // namespace depthroute::golden
