# Writes OUTPUT with the commit of the checkout in SOURCE. Runs at every build, because results record the commit and
# one noted when CMake was last configured may be an old one; the file is only touched when it changes.
set(commit "")
if(EXISTS "${SOURCE}/.git")
  execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define DEPTHROUTE_COMMIT \"${commit}\"\n")
