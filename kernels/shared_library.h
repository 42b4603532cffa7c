// A library that is opened when it is first needed: a process that never needs it does not load it, and a
// program starts on machines that lack it.
#pragma once

#include <string>
#include <vector>

namespace depthroute {

class SharedLibrary {
 public:
  /// Opens the first of `files` that the loader accepts (a bare name: where the loader looks; otherwise a
  /// path; empty ones are passed over). If the environment has `variable`, only the file it names is tried.
  /// Failing is no error here: see problem(). The library stays loaded until the process ends.
  SharedLibrary(const std::string& name, const char* variable, const std::vector<std::string>& files);

  /// Sets *function to the library's `symbol`, or to nullptr; then problem() says so.
  template <typename Function>
  void find(const char* symbol, Function* function) {
    *function = reinterpret_cast<Function>(address_of(symbol));
  }

  /// Why the library cannot be used: which files were tried and what the loader said to the first of them, or
  /// the first symbol that is missing. "" if all is well.
  const std::string& problem() const { return problem_; }
  /// The file that was opened, as it was named; "" if none.
  const std::string& file() const { return file_; }

 private:
  void* address_of(const char* symbol);

  std::string name_, file_, problem_;
  void* opened_ = nullptr;
};

}  // namespace depthroute
