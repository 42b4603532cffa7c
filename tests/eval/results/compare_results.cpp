#include "tests/eval/results/compare_results.h"

#include <algorithm>
#include <map>

#include "eval/results/hdf5.h"

namespace depthroute {
namespace {

/// Values as text where they are strings, as bytes where they are numbers.
using Values = std::vector<std::string>;

template <typename Read>
Values values_of(hid_t type, hid_t space, const Read& read) {
  const size_t count = static_cast<size_t>(std::max<hssize_t>(H5Sget_simple_extent_npoints(space), 0));
  Values values = {"class " + std::to_string(H5Tget_class(type)) + " size " +
                   std::to_string(H5Tget_size(type))};
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> raw(count, nullptr);
    if (count > 0) read(type, raw.data());
    for (const char* text : raw) values.emplace_back(text ? text : "");
    if (count > 0) H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw.data());
  } else {
    std::string bytes(count * H5Tget_size(type), '\0');
    if (count > 0) read(type, bytes.data());
    values.push_back(std::move(bytes));
  }
  return values;
}

std::string shape_of(hid_t space) {
  hsize_t lengths[32] = {};
  const int rank = H5Sget_simple_extent_dims(space, lengths, nullptr);
  std::string text;
  for (int axis = 0; axis < rank; ++axis) text += std::to_string(lengths[axis]) + " ";
  return text;
}

/// Everything in a file by a name: "/cell/kl", "/cell/kl@units".
using Contents = std::map<std::string, Values>;

herr_t add_attribute(hid_t object, const char* name, const H5A_info_t*, void* out) {
  auto& [contents, path] = *static_cast<std::pair<Contents*, std::string>*>(out);
  const std::string attribute = name;
  // References to other objects: where a scale is attached shows in the names below.
  if (attribute == "DIMENSION_LIST" || attribute == "REFERENCE_LIST") return 0;
  const Hdf5Handle opened(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  const Hdf5Handle type(H5Aget_type(opened.get()), H5Tclose), space(H5Aget_space(opened.get()), H5Sclose);
  Values values =
      values_of(type.get(), space.get(), [&](hid_t t, void* to) { H5Aread(opened.get(), t, to); });
  values.push_back(shape_of(space.get()));
  (*contents)[path + "@" + attribute] = std::move(values);
  return 0;
}

herr_t add_object(hid_t file, const char* name, const H5L_info_t*, void* out) {
  Contents& contents = *static_cast<Contents*>(out);
  std::pair<Contents*, std::string> target = {&contents, std::string("/") + name};
  const Hdf5Handle object(H5Oopen(file, name, H5P_DEFAULT), H5Oclose);
  Values& values = contents[target.second];
  values = {"group"};
  if (H5Iget_type(object.get()) == H5I_DATASET) {
    const Hdf5Handle type(H5Dget_type(object.get()), H5Tclose), space(H5Dget_space(object.get()), H5Sclose);
    bool readable = true;
    values = values_of(type.get(), space.get(), [&](hid_t t, void* to) {
      readable = H5Dread(object.get(), t, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) >= 0;
    });
    if (!readable) values = {"unreadable"};
    values.push_back(shape_of(space.get()));
  }
  H5Aiterate2(object.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, add_attribute, &target);
  return 0;
}

Contents contents_of(const std::string& path) {
  prepare_hdf5();
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  Contents contents;
  if (file.get() < 0) return {{"file", {"unreadable"}}};
  // Not H5Ovisit, which takes one more argument since HDF5 1.12. H5Lvisit goes by links, so add the root
  // group.
  add_object(file.get(), ".", nullptr, &contents);
  H5Lvisit(file.get(), H5_INDEX_NAME, H5_ITER_INC, add_object, &contents);
  for (const char* name : {"created", "command_line", "history"}) contents.erase(std::string("/.@") + name);
  return contents;
}

}  // namespace

std::vector<std::string> differences(const std::string& path_a, const std::string& path_b) {
  const Contents a = contents_of(path_a), b = contents_of(path_b);
  std::vector<std::string> result;
  for (const auto& [name, values] : a)
    if (const auto found = b.find(name); found == b.end() || found->second != values) result.push_back(name);
  for (const auto& [name, values] : b)
    if (!a.contains(name)) result.push_back(name);
  if (a.size() < 20) result.push_back("hardly anything in " + path_a);
  return result;
}

}  // namespace depthroute
