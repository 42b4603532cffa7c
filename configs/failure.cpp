#include "configs/failure.h"

#include <cstdio>
#include <exception>
#include <new>

#include "configs/base/error.h"
#include "configs/scalar.h"
#include "configs/standard_streams.h"

namespace depthroute {

Failure current_failure() {
  try {
    throw;
  } catch (const InputError& error) {
    return {kExitBadInput, error.what()};
  } catch (const Interrupted& error) {
    return {kExitInterrupted, error.what()};
  } catch (const std::bad_alloc&) {
    return {kExitFailure, "out of memory"};
  } catch (const std::exception& error) {
    return {kExitFailure, error.what()};
  } catch (...) {
    return {kExitFailure, "unknown failure"};
  }
}

void report(const std::string& program, const Failure& failure) {
  const char* kind = failure.status == kExitInterrupted ? "" : "error: ";
  std::fflush(stdout);
  print_line(stderr, one_line(program) + ": " + kind + one_line(failure.text));
}

}  // namespace depthroute
