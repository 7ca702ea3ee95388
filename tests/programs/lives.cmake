# Programs that fork, end and run out of things (lives.py), and the same again and again (soak.py).
foreach(host process_host ending_host resource_host)
  uvmtrace_test_program(${host} ${host}.cc)
  target_link_libraries(${host} PRIVATE fake_cudart_13)
endforeach()
add_library(test_plugin SHARED libraries/plugin.cc)
target_link_libraries(test_plugin PRIVATE uvmtrace_cuda_headers fake_cudart_13)
add_library(test_slow_disk SHARED libraries/slow_disk.cc)
add_library(test_free_threaded SHARED libraries/free_threaded.cc)
add_library(test_python_314 SHARED libraries/python_314.cc)
add_library(test_slow_loader SHARED libraries/slow_loader.cc)
add_library(test_slow_thread_start SHARED libraries/slow_thread_start.cc)
foreach(name plugin slow_disk slow_loader slow_thread_start free_threaded python_314)
  uvmtrace_leave_as_it_is(test_${name})
  # No RUNPATH here either.
  set_target_properties(test_${name} PROPERTIES
    OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${library_dir} SKIP_BUILD_RPATH ON)
endforeach()
add_dependencies(uvmtrace_test_programs process_host ending_host resource_host test_plugin test_slow_disk test_slow_loader test_slow_thread_start test_free_threaded test_python_314)

uvmtrace_program_tests(lives lives.py 120)
if(UVMTRACE_SANITIZE STREQUAL "")
  add_test(NAME lives.soak
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/soak.py --build ${CMAKE_BINARY_DIR} --runs 20)
  set_tests_properties(lives.soak PROPERTIES TIMEOUT 300)
endif()
