# The recorder's parts that need no process of their own: configuration, the list of calls, the table of managed memory.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_executable(uvmtrace_preload_test
  preload_apply_test.cc
  preload_audit_test.cc
  preload_call_cost_test.cc
  preload_config_test.cc
  preload_functions_test.cc
  preload_launcher_test.cc
  preload_managed_memory_test.cc
  ${PROJECT_SOURCE_DIR}/preload/launcher/elf_program.cc
  ${PROJECT_SOURCE_DIR}/preload/launcher/glibc_floor.cc)
target_link_libraries(uvmtrace_preload_test PRIVATE
  uvmtrace_preload_parts uvmtrace_cupti uvmtrace_record uvmtrace_cuda_headers GTest::gtest_main)
target_compile_definitions(uvmtrace_preload_test PRIVATE
  UVMTRACE_LIBCUDA_STUB="${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so"
  UVMTRACE_LIBCUDART="${CUDAToolkit_LIBRARY_DIR}/libcudart.so")
gtest_discover_tests(uvmtrace_preload_test)

add_executable(uvmtrace_launcher_test launcher_check_test.cc
  ${PROJECT_SOURCE_DIR}/preload/launcher/check_rows.cc
  ${PROJECT_SOURCE_DIR}/preload/launcher/source_states.cc)
target_link_libraries(uvmtrace_launcher_test PRIVATE uvmtrace_driver GTest::gtest_main)
gtest_discover_tests(uvmtrace_launcher_test TEST_PREFIX launcher.)

add_test(NAME preload.calls_of_headers
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/calls_of_headers.py
    ${CMAKE_CXX_COMPILER} ${CUDAToolkit_TARGET_DIR}/include ${PROJECT_SOURCE_DIR}/preload)

add_test(NAME preload.floors
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/preload_floors.py ${PROJECT_SOURCE_DIR}/preload)

add_test(NAME preload.cuda_headers_minimum
  COMMAND ${CMAKE_COMMAND} -D COMPILER=${CMAKE_CXX_COMPILER} -D SOURCE=${PROJECT_SOURCE_DIR}
    -D FOLDER=${CMAKE_CURRENT_BINARY_DIR}/headers_of_cuda_12 -P ${CMAKE_CURRENT_LIST_DIR}/cuda_headers_minimum.cmake)

# An interpreter of its own in the test's process.
find_package(Python3 COMPONENTS Development.Embed)
if(Python3_Development.Embed_FOUND AND NOT UVMTRACE_SANITIZE STREQUAL "thread")
  add_executable(uvmtrace_preload_python_test
    preload_python_stack_test.cc
    preload_python_interpreter_test.cc
    ${PROJECT_SOURCE_DIR}/preload/stacks/python_interpreter.cc
    ${PROJECT_SOURCE_DIR}/preload/stacks/python_names.cc
    ${PROJECT_SOURCE_DIR}/preload/stacks/python_stack.cc)
  target_link_libraries(uvmtrace_preload_python_test PRIVATE
    uvmtrace_preload_parts uvmtrace_record uvmtrace_record_oracle uvmtrace_cuda_headers Python3::Python GTest::gtest_main)
  # Under a sanitizer what CPython leaves behind at its end is not ours.
  gtest_discover_tests(uvmtrace_preload_python_test PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endif()
