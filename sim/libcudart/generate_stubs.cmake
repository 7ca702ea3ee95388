# cmake -DNM=... -DLIBRARY=libcudart.so.13 -DOUTPUT=stubs.c -P generate_stubs.cmake
#
# A stub for every function that the toolkit's runtime library exports, so that any program that was linked with it loads.
# The stubs are weak: what the simulator implements takes their place at link time.
execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "cannot read the symbols of ${LIBRARY} with ${NM}")
endif()
string(REGEX MATCHALL " T [A-Za-z_][A-Za-z0-9_]*" names "${symbols}")
list(LENGTH names count)
if(count LESS 100)
  message(FATAL_ERROR "${LIBRARY} exports ${count} functions only: this is no CUDA runtime library")
endif()
set(text "/* Generated from ${LIBRARY}. */\nint uvmsim_missing(const char* name, int* told);\n")
foreach(name ${names})
  string(SUBSTRING "${name}" 3 -1 name)
  string(APPEND text "__attribute__((weak, visibility(\"default\"))) int ${name}(void) {\n"
                     "  static int told;\n  return uvmsim_missing(\"${name}\", &told);\n}\n")
endforeach()
file(WRITE ${OUTPUT} "${text}")
