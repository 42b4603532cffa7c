// Standard input, output and error as a program finds them: perhaps closed, full, or with a reader that has
// gone. Printing never throws; what could not be printed is the caller's to judge.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace depthroute {

/// Call first in main(). Occupies those of the descriptors 0, 1 and 2 that are closed, so that no file of the
/// program's own becomes its standard output: using them fails, as it should. Ignores SIGPIPE and SIGXFSZ, so
/// that a write to a pipe nobody reads, or beyond the limit of a file's size, fails instead of ending the
/// process.
void secure_standard_streams();

/// Writes `text` at once, after what the stream still buffers. Returns 0, or the error (errno) that stopped
/// it. `give_up` is asked while the reader takes nothing: true ends the waiting with ECANCELED.
int print_text(std::FILE* stream, std::string_view text, const std::function<bool()>& give_up = {}) noexcept;
/// The same, and a line break.
int print_line(std::FILE* stream, std::string_view line) noexcept;

/// "No space left on device": the error that print_text() returned, in words.
std::string print_error(int error);

/// What a program was asked to print, on standard output. SystemError if it cannot be written.
void print_result(std::string_view text);
/// SystemError if anything printed to standard output so far could not be written.
void require_printed();

}  // namespace depthroute
