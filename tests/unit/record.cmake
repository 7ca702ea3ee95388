# The record room: libprotobuf reads back what the recorder wrote.

# The schema once more, in the C++ namespace uvmtrace::pb: its enums have the names of those in record/event.h, and these
# tests need both.
find_package(Protobuf REQUIRED)
set(record_oracle_folder ${CMAKE_BINARY_DIR}/record_oracle)
set(record_oracle_schema ${record_oracle_folder}/trace_oracle.proto)
add_custom_command(
  OUTPUT ${record_oracle_folder}/trace_oracle.pb.cc ${record_oracle_folder}/trace_oracle.pb.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${record_oracle_folder}
  COMMAND sed "s/^package uvmtrace;$/package uvmtrace.pb;/" ${PROJECT_SOURCE_DIR}/proto/uvmtrace.proto > ${record_oracle_schema}
  COMMAND ${Protobuf_PROTOC_EXECUTABLE} --cpp_out=${record_oracle_folder} -I ${record_oracle_folder} ${record_oracle_schema}
  DEPENDS ${PROJECT_SOURCE_DIR}/proto/uvmtrace.proto
  VERBATIM)
add_library(uvmtrace_record_oracle STATIC ${record_oracle_folder}/trace_oracle.pb.cc)
target_include_directories(uvmtrace_record_oracle SYSTEM PUBLIC ${CMAKE_BINARY_DIR})
target_link_libraries(uvmtrace_record_oracle PUBLIC protobuf::libprotobuf)
target_compile_options(uvmtrace_record_oracle PRIVATE -w)

add_executable(uvmtrace_record_test
  record_wire_test.cc
  record_ring_test.cc
  record_interner_test.cc
  record_life_test.cc
  record_output_file_test.cc
  record_run_id_test.cc
  record_recorder_test.cc
  record_failure_test.cc)
target_link_libraries(uvmtrace_record_test PRIVATE uvmtrace_record uvmtrace_record_oracle GTest::gtest_main)
target_compile_definitions(uvmtrace_record_test PRIVATE
  UVMTRACE_PROTOC="${Protobuf_PROTOC_EXECUTABLE}"
  UVMTRACE_PROTO_FOLDER="${PROJECT_SOURCE_DIR}/proto")
gtest_discover_tests(uvmtrace_record_test)

# The recorder as the C compiler links it: without libstdc++ and with no symbol left open. The link is the test: a
# function that needs the C++ runtime breaks the build here, before it breaks a host program. The second half of the check
# reads the result, because a link can succeed for the wrong reason.
add_library(uvmtrace_record_link_test SHARED record_link_test.cc)
target_link_libraries(uvmtrace_record_link_test PRIVATE uvmtrace_recorder_flags
  -Wl,--whole-archive uvmtrace_record -Wl,--no-whole-archive -Wl,-z,defs -Wl,--no-undefined)
set_target_properties(uvmtrace_record_link_test PROPERTIES LINKER_LANGUAGE C)
if(UVMTRACE_SANITIZE STREQUAL "")
  add_test(NAME record_needs_only_libc
    COMMAND ${CMAKE_COMMAND} -DLIBRARY=$<TARGET_FILE:uvmtrace_record_link_test> -DREADELF=${CMAKE_READELF}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/record_link_test.cmake)
else()
  # A sanitizer's runtime is not there for a library that forbids open symbols.
  set_target_properties(uvmtrace_record_link_test PROPERTIES EXCLUDE_FROM_ALL ON)
endif()
