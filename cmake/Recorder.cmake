# Flags of everything that is linked into libuvmtrace.so: it lives in somebody else's process, so it brings no C++ runtime
# (no exceptions, no RTTI, no guarded statics) and its thread-local storage fits into the static block.
add_library(uvmtrace_recorder_flags INTERFACE)
target_compile_options(uvmtrace_recorder_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>
  $<$<COMPILE_LANGUAGE:CXX>:-ftls-model=initial-exec>)
