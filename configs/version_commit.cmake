# Writes the commit of the checkout in SOURCE to OUTPUT. Runs at every build, because results record the commit and
# the one of the last configuration may be stale. Touches the file only if the commit has changed.
set(commit "")
if(EXISTS "${SOURCE}/.git")
  execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define DEPTHROUTE_COMMIT \"${commit}\"\n")
