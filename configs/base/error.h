// Exceptions by kind, and the exit status that each kind ends a program with: 0 done, 2 bad input or
// configuration, 3 interrupted and resumable, 1 anything else. A message is one line: what is wrong, where,
// and what to do.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace depthroute {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitInterrupted = 3;

/// Anything the user can fix by changing an argument, a configuration or a file. Exit status 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <typename... Args>
  explicit InputError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

/// A bad configuration: unknown key, wrong type, impossible combination, bad argument on the command line.
class ConfigError : public InputError {
 public:
  using InputError::InputError;
};

/// A file whose contents are not what they claim to be: shards, safetensors, model folders, checkpoints.
class DataError : public InputError {
 public:
  using InputError::InputError;
};

/// A file or folder that may be intact but cannot be read now: no permission, a stale handle, a failing disk.
/// Never a reason to use something else in its place. Exit status 2.
class AccessError : public DataError {
 public:
  using DataError::DataError;
};

/// The operating system refused: disk full, unwritable folder, failed read. Exit status 1.
class SystemError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <typename... Args>
  explicit SystemError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

/// The run was asked to stop before it had anything to keep; the same command starts over. Exit status 3.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The run cannot continue although its input was valid: too many consecutive non-finite steps. Exit status
/// 1.
class TrainingError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace depthroute
