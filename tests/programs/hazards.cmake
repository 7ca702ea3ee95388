# Mistakes with CUDA's memory on the simulator, and what the report makes of them (hazards.py).
add_executable(hazards_host hazards_host.cu)
set_target_properties(hazards_host PROPERTIES
  CUDA_RUNTIME_LIBRARY Shared RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
target_compile_options(hazards_host PRIVATE -g)
target_link_libraries(hazards_host PRIVATE ${CMAKE_DL_LIBS})
add_dependencies(uvmtrace_test_programs hazards_host)

set(hazards ${CMAKE_CURRENT_SOURCE_DIR}/hazards.py)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${hazards})
execute_process(COMMAND ${Python3_EXECUTABLE} ${hazards} --list OUTPUT_VARIABLE cases COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" cases "${cases}")
if(UVMTRACE_SANITIZE STREQUAL "")
  foreach(case ${cases})
    add_test(NAME hazards.${case}
      COMMAND ${Python3_EXECUTABLE} ${hazards} --build ${CMAKE_BINARY_DIR} --source ${CMAKE_SOURCE_DIR} ${case})
    set_tests_properties(hazards.${case} PROPERTIES TIMEOUT 120)
  endforeach()
endif()
