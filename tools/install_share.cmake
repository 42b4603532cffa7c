# Run by cmake --install with `source` and `share` set (install.cmake): writes what only exists once a build is installed.
set(commit "")
if(EXISTS "${source}/.git")
  execute_process(COMMAND git -C "${source}" describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(WRITE "${share}/commit" "${commit}\n")

# Text to train on: the sources themselves, the same bytes for the same commit on every machine.
set(texts "")
foreach(room configs data kernels train eval)
  file(GLOB_RECURSE room_texts "${source}/${room}/*.h" "${source}/${room}/*.cpp" "${source}/${room}/*.cu")
  list(SORT room_texts)
  list(APPEND texts ${room_texts})
endforeach()
execute_process(COMMAND ${CMAKE_COMMAND} -E cat ${texts} OUTPUT_FILE "${share}/text" COMMAND_ERROR_IS_FATAL ANY)
