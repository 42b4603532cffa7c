#include <hdf5_hl.h>

#include <algorithm>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "eval/results/hdf5.h"

namespace depthroute {
namespace {

constexpr int64_t kScalar = -1;

template <typename T>
hid_t type_of();
template <>
hid_t type_of<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t type_of<double>() {
  return H5T_NATIVE_DOUBLE;
}
template <>
hid_t type_of<int64_t>() {
  return H5T_NATIVE_INT64;
}
template <>
hid_t type_of<int32_t>() {
  return H5T_NATIVE_INT32;
}
template <>
hid_t type_of<uint8_t>() {
  return H5T_NATIVE_UINT8;
}
template <>
hid_t type_of<uint16_t>() {
  return H5T_NATIVE_UINT16;
}

Hdf5Handle string_type() {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

std::vector<const char*> pointers(std::span<const std::string> values) {
  std::vector<const char*> result;
  for (const std::string& value : values) result.push_back(value.c_str());
  return result;
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Returns chunks of at most 1 MiB (HDF5's default chunk cache), splitting the leading axes first.
std::vector<hsize_t> default_chunk(std::vector<hsize_t> lengths, size_t item_size) {
  constexpr hsize_t kLargest = 1 << 20;
  for (hsize_t& length : lengths) {
    hsize_t bytes = item_size;
    for (hsize_t other : lengths) bytes *= other;
    if (bytes <= kLargest) break;
    length = std::max<hsize_t>(1, length / ((bytes + kLargest - 1) / kLargest));
  }
  return lengths;
}

}  // namespace

void Hdf5Writer::fail(const std::string& what) const {
  throw SystemError("{}: HDF5 cannot {} (is the disk full?)", path_, what);
}

hid_t Hdf5Writer::check(hid_t result, const std::string& what) const {
  if (result < 0) fail(what);
  return result;
}

Hdf5Writer::Hdf5Writer(const std::string& path, int64_t user_block) : path_(path) {
  prepare_hdf5();
  const Hdf5Handle properties(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(properties.get(), false);
  H5Pset_userblock(properties.get(), static_cast<hsize_t>(user_block));
  file_ = Hdf5Handle(
      check(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, properties.get(), H5P_DEFAULT), "create this file"),
      H5Fclose);
}

void Hdf5Writer::group(const std::string& path) {
  const Hdf5Handle properties(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_obj_track_times(properties.get(), false);
  const Hdf5Handle created(
      check(H5Gcreate2(file_.get(), path.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
            "create group " + path),
      H5Gclose);
}

void Hdf5Writer::link(const std::string& existing, const std::string& path) {
  check(H5Lcreate_hard(file_.get(), existing.c_str(), file_.get(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT),
        "link " + path);
}

void Hdf5Writer::put_attribute(hid_t object, const std::string& name, hid_t type, int64_t length,
                               const void* values) {
  const hsize_t extent = static_cast<hsize_t>(length);
  const Hdf5Handle space(length < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &extent, nullptr),
                         H5Sclose);
  const Hdf5Handle created(
      check(H5Acreate2(object, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
            "create attribute " + name),
      H5Aclose);
  if (length == 0) return;
  check(H5Awrite(created.get(), type, values), "write attribute " + name);
}

Hdf5Handle Hdf5Writer::open(const std::string& object) const {
  return Hdf5Handle(check(H5Oopen(file_.get(), object.c_str(), H5P_DEFAULT), "open " + object), H5Oclose);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, const std::string& value) {
  const char* pointer = value.c_str();
  put_attribute(open(object).get(), name, string_type().get(), kScalar, &pointer);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, double value) {
  put_attribute(open(object).get(), name, H5T_NATIVE_DOUBLE, kScalar, &value);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, int64_t value) {
  put_attribute(open(object).get(), name, H5T_NATIVE_INT64, kScalar, &value);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name,
                           const std::vector<std::string>& values) {
  put_attribute(open(object).get(), name, string_type().get(), static_cast<int64_t>(values.size()),
                pointers(values).data());
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name,
                           std::span<const uint8_t> values) {
  put_attribute(open(object).get(), name, H5T_NATIVE_UINT8, static_cast<int64_t>(values.size()),
                values.data());
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name,
                           std::span<const int64_t> values) {
  put_attribute(open(object).get(), name, H5T_NATIVE_INT64, static_cast<int64_t>(values.size()),
                values.data());
}

void Hdf5Writer::fill_value(const std::string& object, uint8_t value) {
  put_attribute(open(object).get(), "_FillValue", H5T_NATIVE_UINT8, 1, &value);
}

void Hdf5Writer::fill_value(const std::string& object, uint16_t value) {
  put_attribute(open(object).get(), "_FillValue", H5T_NATIVE_UINT16, 1, &value);
}

Hdf5Writer::Axes Hdf5Writer::axes(const std::vector<std::string>& scales) const {
  Axes result;
  for (const std::string& scale : scales) {
    const Hdf5Handle dataset(check(H5Dopen2(file_.get(), scale.c_str(), H5P_DEFAULT), "open scale " + scale),
                             H5Dclose);
    const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
    DR_CHECK(H5Sget_simple_extent_ndims(space.get()) == 1 && H5DSis_scale(dataset.get()) > 0);
    hsize_t length = 0;
    H5Sget_simple_extent_dims(space.get(), &length, nullptr);
    result.lengths.push_back(length);
    result.scales.push_back(scale);
  }
  return result;
}

Hdf5Handle Hdf5Writer::create(const std::string& path, hid_t type, const std::vector<hsize_t>& lengths,
                              const std::vector<hsize_t>& chunk, bool compressed) {
  const Hdf5Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(properties.get(), false);
  hsize_t count = 1;
  for (hsize_t length : lengths) count *= length;
  if (!lengths.empty() && count > 0 && H5Tis_variable_str(type) == 0) {
    H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
    if (compressed) {
      H5Pset_shuffle(properties.get());
      H5Pset_deflate(properties.get(), 1);
    }
    H5Pset_fletcher32(properties.get());
  }
  const Hdf5Handle space(lengths.empty()
                             ? H5Screate(H5S_SCALAR)
                             : H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr),
                         H5Sclose);
  return Hdf5Handle(check(H5Dcreate2(file_.get(), path.c_str(), type, space.get(), H5P_DEFAULT,
                                     properties.get(), H5P_DEFAULT),
                          "create " + path),
                    H5Dclose);
}

void Hdf5Writer::describe(hid_t dataset, const Axes& axes, const VariableInfo& info) {
  const char *units = info.units.c_str(), *long_name = info.long_name.c_str();
  put_attribute(dataset, "units", string_type().get(), kScalar, &units);
  put_attribute(dataset, "long_name", string_type().get(), kScalar, &long_name);
  for (size_t axis = 0; axis < axes.scales.size(); ++axis) {
    const Hdf5Handle scale(H5Dopen2(file_.get(), axes.scales[axis].c_str(), H5P_DEFAULT), H5Dclose);
    check(H5DSattach_scale(dataset, scale.get(), static_cast<unsigned>(axis)), "attach " + axes.scales[axis]);
  }
}

void Hdf5Writer::write_strings(hid_t dataset, std::span<const std::string> values) {
  if (values.empty()) return;
  check(H5Dwrite(dataset, string_type().get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers(values).data()),
        "write strings");
}

void Hdf5Writer::scale(const std::string& path, std::span<const std::string> values,
                       const VariableInfo& info) {
  const Hdf5Handle dataset = create(path, string_type().get(), {values.size()}, {}, false);
  write_strings(dataset.get(), values);
  describe(dataset.get(), {}, info);
  check(H5DSset_scale(dataset.get(), last_part(path).c_str()), "make a scale of " + path);
}

void Hdf5Writer::scale(const std::string& path, std::span<const int64_t> values, const VariableInfo& info) {
  // Do not copy one vector into the other: g++ 14 warns falsely about copying one element (-Warray-bounds).
  const Hdf5Handle dataset =
      create(path, H5T_NATIVE_INT64, {values.size()}, default_chunk({values.size()}, sizeof(int64_t)), false);
  check(H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
        "write " + path);
  describe(dataset.get(), {}, info);
  check(H5DSset_scale(dataset.get(), last_part(path).c_str()), "make a scale of " + path);
}

template <typename T>
void Hdf5Writer::write(const std::string& path, std::span<const T> values,
                       const std::vector<std::string>& scales, const VariableInfo& info) {
  const Axes shape = axes(scales);
  hsize_t count = 1;
  for (hsize_t length : shape.lengths) count *= length;
  DR_CHECK_MSG(count == values.size(), path.c_str());
  if constexpr (std::is_same_v<T, std::string>) {
    const Hdf5Handle dataset = create(path, string_type().get(), shape.lengths, {}, false);
    write_strings(dataset.get(), values);
    describe(dataset.get(), shape, info);
  } else {
    const Hdf5Handle dataset =
        create(path, type_of<T>(), shape.lengths, default_chunk(shape.lengths, sizeof(T)), false);
    check(H5Dwrite(dataset.get(), type_of<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
          "write " + path);
    describe(dataset.get(), shape, info);
  }
}

template void Hdf5Writer::write(const std::string&, std::span<const float>, const std::vector<std::string>&,
                                const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const double>, const std::vector<std::string>&,
                                const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const int64_t>, const std::vector<std::string>&,
                                const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const int32_t>, const std::vector<std::string>&,
                                const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const uint8_t>, const std::vector<std::string>&,
                                const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const uint16_t>,
                                const std::vector<std::string>&, const VariableInfo&);
template void Hdf5Writer::write(const std::string&, std::span<const std::string>,
                                const std::vector<std::string>&, const VariableInfo&);

void Hdf5Writer::create_u16(const std::string& path, const std::vector<std::string>& scales,
                            const std::vector<int64_t>& chunk, const VariableInfo& info) {
  const Axes shape = axes(scales);
  DR_CHECK(chunk.size() == scales.size());
  const Hdf5Handle dataset =
      create(path, H5T_NATIVE_UINT16, shape.lengths, std::vector<hsize_t>(chunk.begin(), chunk.end()), true);
  describe(dataset.get(), shape, info);
}

void Hdf5Writer::write_block(const std::string& path, std::span<const uint16_t> values,
                             const std::vector<int64_t>& begin, const std::vector<int64_t>& count) {
  const Hdf5Handle dataset(check(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT), "open " + path), H5Dclose);
  const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const std::vector<hsize_t> start(begin.begin(), begin.end()), extent(count.begin(), count.end());
  hsize_t items = 1;
  for (hsize_t length : extent) items *= length;
  DR_CHECK(items == values.size());
  check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr),
        "select in " + path);
  const Hdf5Handle memory(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                          H5Sclose);
  check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, memory.get(), space.get(), H5P_DEFAULT, values.data()),
        "write " + path);
}

void Hdf5Writer::close() {
  check(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL), "flush this file");
  check(H5Fclose(file_.release()), "close this file");
}

}  // namespace depthroute
