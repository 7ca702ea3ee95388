# What a trace holds besides calls and faults (record_cases.py).
add_executable(record_host record_host.cu)
set_target_properties(record_host PROPERTIES
  CUDA_RUNTIME_LIBRARY Shared RUNTIME_OUTPUT_DIRECTORY ${program_dir} SKIP_BUILD_RPATH ON)
target_link_libraries(record_host PRIVATE ${CMAKE_DL_LIBS})
add_dependencies(uvmtrace_test_programs record_host)
if(UVMTRACE_SANITIZE STREQUAL "")
  uvmtrace_program_tests(record record_cases.py 60)
endif()
