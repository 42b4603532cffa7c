// As much of HDF5's C API as results need, in a form that h5py and both of xarray's engines read: every axis
// has a dimension scale, strings are variable-length UTF-8, no bool, enum or compound types, no object times
// (equal contents give equal bytes), a checksum on every array of numbers.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace depthroute {

/// Owns one HDF5 identifier.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// What every variable says about itself.
struct VariableInfo {
  std::string units;  // "nats/token", "1" for pure numbers, "" for strings
  std::string long_name;
};

class Hdf5Writer {
 public:
  /// Creates or truncates `path`. Every member throws SystemError naming the path when HDF5 refuses.
  /// `user_block`: bytes at the start of the file that HDF5 leaves to others; 0, or a power of two from 512.
  explicit Hdf5Writer(const std::string& path, int64_t user_block = 0);
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  void group(const std::string& path);
  /// Adds another name for the same object: this is how a scale comes into every group that uses it.
  void link(const std::string& existing, const std::string& path);

  void attribute(const std::string& object, const std::string& name, const std::string& value);
  void attribute(const std::string& object, const std::string& name, double value);
  void attribute(const std::string& object, const std::string& name, int64_t value);
  void attribute(const std::string& object, const std::string& name, const std::vector<std::string>& values);
  void attribute(const std::string& object, const std::string& name, std::span<const uint8_t> values);
  void attribute(const std::string& object, const std::string& name, std::span<const int64_t> values);
  /// The value that stands for a missing one (CF `_FillValue`), in the variable's own type.
  void fill_value(const std::string& object, uint8_t value);
  void fill_value(const std::string& object, uint16_t value);

  /// Writes a one-dimensional variable: the scale of the axis named by the last component of `path`.
  void scale(const std::string& path, std::span<const std::string> values, const VariableInfo& info);
  void scale(const std::string& path, std::span<const int64_t> values, const VariableInfo& info);

  /// Writes a variable whose axes are the given scales (paths), row-major. T: float, double, int64_t,
  /// int32_t, uint8_t, uint16_t or std::string. Programmer error if the size is not the product of the
  /// scales' lengths.
  template <typename T>
  void write(const std::string& path, std::span<const T> values, const std::vector<std::string>& scales,
             const VariableInfo& info);

  /// Makes a compressed variable to be filled by write_block(). `chunk` has an extent per scale.
  void create_u16(const std::string& path, const std::vector<std::string>& scales,
                  const std::vector<int64_t>& chunk, const VariableInfo& info);
  void write_block(const std::string& path, std::span<const uint16_t> values,
                   const std::vector<int64_t>& begin, const std::vector<int64_t>& count);

  /// Flushes and closes the file; nothing may follow.
  void close();

 private:
  struct Axes {
    std::vector<hsize_t> lengths;
    std::vector<std::string> scales;
  };
  Axes axes(const std::vector<std::string>& scales) const;
  Hdf5Handle create(const std::string& path, hid_t type, const std::vector<hsize_t>& lengths,
                    const std::vector<hsize_t>& chunk, bool compressed);
  void describe(hid_t dataset, const Axes& axes, const VariableInfo& info);
  void write_strings(hid_t dataset, std::span<const std::string> values);
  Hdf5Handle open(const std::string& object) const;
  void put_attribute(hid_t object, const std::string& name, hid_t type, int64_t length, const void* values);
  [[noreturn]] void fail(const std::string& what) const;
  hid_t check(hid_t result, const std::string& what) const;

  std::string path_;
  Hdf5Handle file_;
};

/// Reads whole variables, converted to the type asked for. DataError naming file and variable if one is
/// missing or has another type.
class Hdf5Reader {
 public:
  explicit Hdf5Reader(const std::string& path);
  bool has(const std::string& path) const;
  std::vector<std::string> children(const std::string& group) const;  // sorted
  bool is_group(const std::string& path) const;
  std::vector<int64_t> shape(const std::string& path) const;
  std::vector<double> doubles(const std::string& path) const;
  std::vector<int64_t> integers(const std::string& path) const;
  std::vector<uint16_t> shorts(const std::string& path) const;
  std::vector<std::string> strings(const std::string& path) const;
  bool has_attribute(const std::string& object, const std::string& name) const;
  int64_t integer_attribute(const std::string& object, const std::string& name) const;
  std::string string_attribute(const std::string& object, const std::string& name) const;
  std::vector<std::string> strings_attribute(const std::string& object, const std::string& name) const;

 private:
  Hdf5Handle open(const std::string& path) const;
  Hdf5Handle open_attribute(const std::string& object, const std::string& name) const;
  std::string path_;
  Hdf5Handle file_;
};

/// Sets HDF5 up; everything in this header calls it first. Turns off the library's own error printing, and
/// its cleanup at exit, which crashes after a failed write (disk full).
void prepare_hdf5();

/// True if the file can be opened as HDF5 at all.
bool is_hdf5_file(const std::string& path);

}  // namespace depthroute
