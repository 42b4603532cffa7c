#include <sys/stat.h>

#include <algorithm>

#include "configs/base/error.h"
#include "eval/results/hdf5.h"

namespace depthroute {
namespace {

Hdf5Handle string_type() {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

herr_t collect_name(hid_t, const char* name, const H5L_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->push_back(name);
  return 0;
}

}  // namespace

void prepare_hdf5() {
  static const bool done = [] {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return true;
  }();
  static_cast<void>(done);
}

bool is_hdf5_file(const std::string& path) {
  prepare_hdf5();
  return H5Fis_hdf5(path.c_str()) > 0;
}

Hdf5Reader::Hdf5Reader(const std::string& path) : path_(path) {
  prepare_hdf5();
  file_ = Hdf5Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (file_.get() < 0) throw DataError("{}: cannot be read as HDF5", path);
}

bool Hdf5Reader::has(const std::string& path) const {
  // H5Lexists checks only the last component, so check every one.
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (H5Lexists(file_.get(), part.c_str(), H5P_DEFAULT) <= 0) return false;
    if (end == std::string::npos) return true;
  }
}

std::vector<std::string> Hdf5Reader::children(const std::string& group) const {
  const Hdf5Handle opened(H5Gopen2(file_.get(), group.c_str(), H5P_DEFAULT), H5Gclose);
  if (opened.get() < 0) throw DataError("{}: no group {}", path_, group);
  std::vector<std::string> names;
  H5Literate(opened.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_name, &names);
  return names;
}

bool Hdf5Reader::is_group(const std::string& path) const {
  const Hdf5Handle opened(H5Gopen2(file_.get(), path.c_str(), H5P_DEFAULT), H5Gclose);
  return opened.get() >= 0;
}

Hdf5Handle Hdf5Reader::open(const std::string& path) const {
  Hdf5Handle dataset(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
  if (dataset.get() < 0) throw DataError("{}: no variable {}", path_, path);
  return dataset;
}

std::vector<int64_t> Hdf5Reader::shape(const std::string& path) const {
  const Hdf5Handle dataset = open(path);
  const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0) throw DataError("{}: {} has no shape", path_, path);
  std::vector<hsize_t> lengths(static_cast<size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space.get(), lengths.data(), nullptr);
  return {lengths.begin(), lengths.end()};
}

namespace {

template <typename T>
std::vector<T> read_all(hid_t dataset, hid_t type, const std::vector<int64_t>& shape, const std::string& file,
                        const std::string& path) {
  int64_t count = 1;
  for (int64_t length : shape) count *= length;
  std::vector<T> values(static_cast<size_t>(count));
  if (count > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
    throw DataError("{}: {} cannot be read (a damaged file, or another type)", file, path);
  return values;
}

}  // namespace

std::vector<double> Hdf5Reader::doubles(const std::string& path) const {
  return read_all<double>(open(path).get(), H5T_NATIVE_DOUBLE, shape(path), path_, path);
}

std::vector<int64_t> Hdf5Reader::integers(const std::string& path) const {
  return read_all<int64_t>(open(path).get(), H5T_NATIVE_INT64, shape(path), path_, path);
}

std::vector<uint16_t> Hdf5Reader::shorts(const std::string& path) const {
  return read_all<uint16_t>(open(path).get(), H5T_NATIVE_UINT16, shape(path), path_, path);
}

std::vector<std::string> Hdf5Reader::strings(const std::string& path) const {
  const Hdf5Handle dataset = open(path), type = string_type();
  std::vector<char*> raw = read_all<char*>(dataset.get(), type.get(), shape(path), path_, path);
  std::vector<std::string> values;
  for (const char* text : raw) values.emplace_back(text ? text : "");
  const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
  if (!raw.empty()) H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, raw.data());
  return values;
}

bool Hdf5Reader::has_attribute(const std::string& object, const std::string& name) const {
  return H5Aexists_by_name(file_.get(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

Hdf5Handle Hdf5Reader::open_attribute(const std::string& object, const std::string& name) const {
  Hdf5Handle attribute(H5Aopen_by_name(file_.get(), object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
                       H5Aclose);
  if (attribute.get() < 0) throw DataError("{}: {} has no attribute {}", path_, object, name);
  return attribute;
}

int64_t Hdf5Reader::integer_attribute(const std::string& object, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(object, name);
  const Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose);
  int64_t value = 0;
  if (H5Sget_simple_extent_npoints(space.get()) != 1 ||
      H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0)
    throw DataError("{}: attribute {} of {} is not an integer", path_, name, object);
  return value;
}

std::vector<std::string> Hdf5Reader::strings_attribute(const std::string& object,
                                                       const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(object, name), type = string_type();
  const Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose);
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  constexpr hssize_t kMost = 1 << 20;  // a damaged file may claim anything
  std::vector<char*> raw(static_cast<size_t>(std::clamp<hssize_t>(count, 0, kMost)), nullptr);
  if (count < 0 || count > kMost || (count > 0 && H5Aread(attribute.get(), type.get(), raw.data()) < 0))
    throw DataError("{}: attribute {} of {} is not variable-length strings", path_, name, object);
  std::vector<std::string> values;
  for (const char* text : raw) values.emplace_back(text ? text : "");
  if (count > 0) H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, raw.data());
  return values;
}

std::string Hdf5Reader::string_attribute(const std::string& object, const std::string& name) const {
  std::vector<std::string> values = strings_attribute(object, name);
  if (values.size() != 1)
    throw DataError("{}: attribute {} of {} is not a variable-length string", path_, name, object);
  return std::move(values.front());
}

}  // namespace depthroute
