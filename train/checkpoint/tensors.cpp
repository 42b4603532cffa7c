#include "train/checkpoint/tensors.h"

#include <algorithm>
#include <map>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/model/model_folder.h"
#include "data/model/safetensors.h"
#include "data/run_layout.h"

namespace depthroute {

namespace {

std::string tensor_name(const char* prefix, const OwnedPart& part) {
  std::string name = prefix + part.parameter->name;
  if (part.elements.size() < part.parameter->numel())
    name += fmt::format("[{}:{}]", part.elements.begin, part.elements.end);
  return name;
}

std::vector<int64_t> stored_shape(const OwnedPart& part) {
  if (part.elements.size() < part.parameter->numel()) return {part.elements.size()};
  return part.parameter->shape.extents();
}

ManifestFile write_text(const std::string& folder, const std::string& path, const std::string& text) {
  write_file_atomically(folder + "/" + path, text);
  return {path, static_cast<int64_t>(text.size()), hash_bytes(std::as_bytes(std::span(text)))};
}

}  // namespace

std::vector<ParameterRun> parameter_runs(const ParameterLayout& layout, int processes) {
  const std::vector<Parameter>& all = layout.all();
  std::vector<ParameterRun> runs;
  int64_t left = layout.num_parameters();
  for (size_t at = 0; at < all.size();) {
    const auto runs_left = static_cast<size_t>(processes) - runs.size();
    const int64_t share = left / static_cast<int64_t>(runs_left);
    ParameterRun run{at, at, {all[at].offset, all[at].offset}};
    int64_t size = 0;
    const auto fits = [&](const Parameter& next) {  // ends nearer to the share with it than without
      return run.last == run.first || runs_left == 1 ||
             (all.size() - run.last >= runs_left && size + next.numel() / 2 <= share);
    };
    while (run.last < all.size() && fits(all[run.last])) {
      size += all[run.last].numel();
      run.elements.end = all[run.last].offset + all[run.last].numel();
      ++run.last;
    }
    left -= size;
    at = run.last;
    runs.push_back(run);
  }
  return runs;
}

std::vector<OwnedPart> owned_parts(const ParameterLayout& layout, const Partition& partition) {
  std::vector<OwnedPart> parts;
  for (const OwnedRange& range : partition.owned_ranges())
    for (const Parameter& parameter : layout.all()) {
      const int64_t begin = std::max(range.begin, parameter.offset);
      const int64_t end = std::min(range.end, parameter.offset + parameter.numel());
      if (begin >= end) continue;
      parts.push_back(
          {&parameter, {begin - parameter.offset, end - parameter.offset}, range.at + (begin - range.begin)});
    }
  return parts;
}

std::vector<ManifestFile> write_checkpoint_tensors(const std::string& folder, const CheckpointTensors& from,
                                                   const CheckpointSnapshot& snapshot,
                                                   const std::function<void()>& between_chunks) {
  const auto [rank, processes] = std::pair(from.partition.options().rank, from.partition.options().size);
  std::vector<ManifestFile> files;
  std::vector<TensorToWrite> tensors;
  const auto write = [&](const std::string& name, const std::map<std::string, std::string>& metadata) {
    const WrittenFile written = write_safetensors(folder + "/" + name, tensors, metadata, between_chunks);
    files.push_back({name, written.size, written.checksum});
    tensors.clear();
  };

  const std::vector<ParameterRun> runs = parameter_runs(from.layout, processes);
  if (rank < static_cast<int>(runs.size())) {
    const ParameterRun& run = runs[rank];
    for (size_t i = run.first; i < run.last; ++i) {
      const Parameter& parameter = from.layout.all()[i];
      tensors.push_back({parameter.name,
                         parameter.shape.extents(),
                         {snapshot.parameters.data<float>() + (parameter.offset - run.elements.begin),
                          static_cast<size_t>(parameter.numel())}});
    }
    write(fmt::format("{}/{}", kModelName, model_part_name(rank, static_cast<int>(runs.size()))),
          model_metadata());
  }

  const std::vector<OwnedPart> parts = owned_parts(from.layout, from.partition);
  for (const auto& [prefix, moment] : {std::pair{"m.", &snapshot.m}, std::pair{"v.", &snapshot.v}})
    for (const OwnedPart& part : parts)
      tensors.push_back({tensor_name(prefix, part),
                         stored_shape(part),
                         {moment->data<float>() + part.at, static_cast<size_t>(part.elements.size())}});
  write(moments_name(rank, processes), {});
  return files;
}

std::vector<ManifestFile> write_model_description(const std::string& folder, const CheckpointTensors& from,
                                                  const Companions& companions) {
  std::vector<ManifestFile> files = write_companions(folder, kModelName, companions.files);
  files.push_back(write_text(folder, fmt::format("{}/config.json", kModelName),
                             model_config_to_json(from.config, false, companions.keys)));
  const std::vector<ParameterRun> runs = parameter_runs(from.layout, from.partition.options().size);
  const int parts = static_cast<int>(runs.size());
  if (parts == 1) return files;
  std::map<std::string, std::string> file_by_tensor;
  for (int part = 0; part < parts; ++part)
    for (size_t i = runs[part].first; i < runs[part].last; ++i)
      file_by_tensor[from.layout.all()[i].name] = model_part_name(part, parts);
  const int64_t bytes = from.layout.num_parameters() * static_cast<int64_t>(sizeof(float));
  files.push_back(write_text(folder, fmt::format("{}/{}", kModelName, kModelIndexName),
                             model_index_json(file_by_tensor, bytes)));
  return files;
}

}  // namespace depthroute
