#include "kernels/shared_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

namespace depthroute {

SharedLibrary::SharedLibrary(const std::string& name, const char* variable,
                             const std::vector<std::string>& files)
    : name_(name) {
  const char* named = std::getenv(variable);
  const bool is_named = named && *named;
  std::string tried, reason;
  for (const std::string& file : is_named ? std::vector<std::string>{named} : files) {
    if (file.empty()) continue;
    opened_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened_) {
      file_ = file;
      return;
    }
    if (reason.empty()) reason = dlerror();
    tried += (tried.empty() ? "" : ", ") + file;
  }
  problem_ = is_named ? fmt::format("{} cannot be loaded: {} (named by {})", name, reason, variable)
                      : fmt::format("{} cannot be loaded: {} (tried {}; {} may name the file)", name, reason,
                                    tried, variable);
}

void* SharedLibrary::address_of(const char* symbol) {
  if (!opened_) return nullptr;
  void* const address = dlsym(opened_, symbol);
  if (!address && problem_.empty()) problem_ = fmt::format("{} ({}) has no {}", name_, file_, symbol);
  return address;
}

}  // namespace depthroute
