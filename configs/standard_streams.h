// Standard input, output and error as a program finds them: possibly closed, full, or without a reader.
// Printing never throws; the caller judges what a failure means.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace depthroute {

/// Call first in main(). Occupies closed descriptors among 0, 1 and 2, so that no file of the program becomes
/// its standard output: using them still fails, as it should. Ignores SIGPIPE and SIGXFSZ, so that writing to
/// a pipe without a reader or beyond the file size limit fails instead of ending the process.
void secure_standard_streams();

/// Flushes the stream and writes `text` unbuffered. Returns 0, or the errno that stopped it. Polls `give_up`
/// while the reader takes nothing; once it returns true, stops waiting and returns ECANCELED.
int print_text(std::FILE* stream, std::string_view text, const std::function<bool()>& give_up = {}) noexcept;
/// The same with a line break.
int print_line(std::FILE* stream, std::string_view line) noexcept;

/// The error that print_text() returned, in words: "No space left on device".
std::string print_error(int error);

/// Prints what the program was asked for on standard output. SystemError if it cannot be written.
void print_result(std::string_view text);
/// Throws SystemError if anything printed to standard output so far could not be written.
void require_printed();

}  // namespace depthroute
