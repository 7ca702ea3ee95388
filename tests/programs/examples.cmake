# The examples where there is no GPU and no simulator: what they say, and with which exit code they decline.
find_package(Python3 COMPONENTS Interpreter REQUIRED)

add_test(NAME examples.serve COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/serve_test.py)
set_tests_properties(examples.serve PROPERTIES TIMEOUT 120)

# uvmtrace_refusal_test(NAME EXAMPLE REGULAR-EXPRESSION ARGUMENT...): nothing but exit code 2 and the message will do.
function(uvmtrace_refusal_test name example expression)
  add_test(NAME examples.${name}
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${example}> "-DARGUMENTS=${ARGN}" "-DEXPRESSION=${expression}"
            -P ${CMAKE_CURRENT_SOURCE_DIR}/expect_refusal.cmake)
  set_tests_properties(examples.${name} PROPERTIES TIMEOUT 60)
endfunction()

uvmtrace_refusal_test(oversub_unknown_mode oversub "--mode: x not in" --mode x)
uvmtrace_refusal_test(oversub_no_room oversub "-k: Value 0 not in range" -k 0)
uvmtrace_refusal_test(oversub_bad_size oversub "--capacity: .*unit not recognized" --capacity 2parsecs)
uvmtrace_refusal_test(known_bytes_bad_size known_bytes "--bytes: .*unit not recognized" --bytes 3parsecs)
uvmtrace_refusal_test(zero_copy_bad_passes zero_copy "--passes" --passes 0)
