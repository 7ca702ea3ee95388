# The examples by themselves, nobody tracing them: what they decline, and whether their data is right on the simulator and
# their checks find it when it is not.
find_package(Python3 COMPONENTS Interpreter REQUIRED)

add_test(NAME examples.serve COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/serve_test.py)
set_tests_properties(examples.serve PROPERTIES TIMEOUT 120)

# uvmtrace_example_test(NAME EXAMPLE EXIT-CODE REGULAR-EXPRESSION ARGUMENT...): exit code and message must both be right.
function(uvmtrace_example_test name example code expression)
  add_test(NAME examples.${name}
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${example}> "-DARGUMENTS=${ARGN}" -DCODE=${code}
            "-DEXPRESSION=${expression}" -P ${CMAKE_CURRENT_SOURCE_DIR}/expect_exit.cmake)
  set_tests_properties(examples.${name} PROPERTIES TIMEOUT 60)
endfunction()

uvmtrace_example_test(oversub_unknown_mode oversub 2 "--mode: x not in" --mode x)
uvmtrace_example_test(oversub_no_room oversub 2 "-k: Value 0 not in range" -k 0)
uvmtrace_example_test(oversub_bad_size oversub 2 "--capacity: .*unit not recognized" --capacity 2parsecs)
uvmtrace_example_test(known_bytes_bad_size known_bytes 2 "--bytes: .*unit not recognized" --bytes 3parsecs)
uvmtrace_example_test(zero_copy_bad_passes zero_copy 2 "--passes" --passes 0)

# A sanitizer's runtime wants the page faults that the simulator lives on, and to be preloaded first.
if(UVMTRACE_SANITIZE STREQUAL "")
  set(simulator "LD_LIBRARY_PATH=${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/uvmtrace/sim" "UVMTRACE_SIM_PROFILE=tiny")

  function(uvmtrace_simulated_test name)
    uvmtrace_example_test(simulated.${name} ${ARGN})
    set_tests_properties(examples.simulated.${name} PROPERTIES ENVIRONMENT "${simulator}")
  endfunction()

  # 62 MiB of 64 are free beside the counter: 4 chunks of 14 MiB, 16 chunks in, 12 out.
  set(four_modes "total .* 234881024 . 176160768 .*total .* 234881024 . 176160768 .*total .* 234881024 . 176160768 ")
  string(APPEND four_modes ".*total .* 234881024 . 176160768 ")
  uvmtrace_simulated_test(oversub oversub 0 "${four_modes}" -k 4 -m 8 --verify-host --mode manual,pinned,uvm,prefetch)
  # m = 3k: every chunk comes in twice and all but the last k leave; read-mostly chunks that nobody wrote do not travel back.
  uvmtrace_simulated_test(oversub_ping_pong_by_the_host oversub 0 "total .* 100663296 . 100663296 .*data: ok"
    --mode prefetch --pattern ping-pong -k 2 -m 6 --capacity 16MiB)
  uvmtrace_simulated_test(oversub_clean_copies_stay_on_the_host oversub 0 "total .* 50331648 . 0 .*data: ok"
    --mode read-mostly --readonly -k 2 -m 6 --capacity 8MiB)
  uvmtrace_simulated_test(oversub_random_pages oversub 0 "data: ok" --mode uvm --pattern random -k 2 -m 4 --capacity 8MiB)
  uvmtrace_simulated_test(oversub_first_touch_in_prefill oversub 0 "by the host 0.0000 s.*data: ok"
    --mode pinned --init prefill --host-code O0 -k 2 -m 4 --capacity 8MiB)
  uvmtrace_simulated_test(paged_attention paged_attention 0 "data: ok" --seq 128 --kv-heads 1 --batch 2 --block 1,16)
  uvmtrace_simulated_test(paged_attention_beyond_its_capacity paged_attention 0 "the KV cache is 128 KiB"
    --seq 128 --kv-heads 1 --batch 2 --mode lookup --memory managed --capacity 64KiB)
  uvmtrace_simulated_test(paged_attention_odd_length paged_attention 2 "multiple of 128" --seq 100)
  uvmtrace_simulated_test(offload offload 0 "prefetch .* 20971520 . 16777216 .*data: ok" --layers 2 --passes 2)
  uvmtrace_simulated_test(offload_too_small offload 2 "at least 4 MiB" --layer-bytes 1MiB)
  uvmtrace_simulated_test(kv_remap kv_remap 0 "table .* 0 . 54525952 . 37748736 .*data: ok"
    --blocks 20 --slots 8 --window 3 --fresh 1 --steps 24)
  uvmtrace_simulated_test(kv_remap_small_blocks kv_remap 0 "vmm-inline .*multiples of 2 MiB.*data: ok"
    --blocks 20 --slots 8 --window 3 --steps 24 --block-bytes 64KiB --reuse zipf)
  # 20.49 us a call: the price of the simulated calls, not of the simulator's own work.
  uvmtrace_simulated_test(kv_remap_on_the_simulated_clock kv_remap 0 "vmm-inline .* 20.49 . 70 . "
    --blocks 20 --slots 8 --window 3 --fresh 1 --steps 24 --design vmm-inline)
  set_property(TEST examples.simulated.kv_remap_on_the_simulated_clock APPEND PROPERTY ENVIRONMENT UVMTRACE_SIM_TIME_SCALE=0)
  uvmtrace_simulated_test(kv_remap_no_room kv_remap 2 "two windows" --slots 10 --window 6)
  uvmtrace_simulated_test(kv_fragmentation kv_fragmentation 0 "paged-1 . 1 .*data: ok")
  uvmtrace_simulated_test(kv_fragmentation_too_large kv_fragmentation 2 "do not fit.*--allow-oversubscription" -k 1000)
  uvmtrace_simulated_test(kv_fragmentation_oversubscribed kv_fragmentation 0 "data: ok"
    -k 20 --max-tokens 2048 --backend managed --cycles 3 --allow-oversubscription)
  uvmtrace_simulated_test(oversub_by_the_program oversub 0 "total .* 134217728 . 100663296 .*data: ok"
    --mode uvm -k 4 -m 8 --capacity 32MiB)
  uvmtrace_simulated_test(oversub_clean_chunks_are_dropped_by_hand oversub 0 "total .* 234881024 . 0 .*data: ok"
    --mode manual --readonly --verify-host)
  uvmtrace_simulated_test(oversub_that_fits oversub 0 "total .* 44040192 . 0 .*data: ok" --mode uvm -k 4 -m 3)
  uvmtrace_simulated_test(oversub_near_the_gpu oversub 0 "host thread: on the [0-9]+ cores of NUMA node 0.*data: ok"
    --affinity near --mode manual -k 2 -m 4 --capacity 8MiB)
  if(EXISTS /sys/devices/system/node/node1)
    uvmtrace_simulated_test(oversub_away_from_the_gpu oversub 0 "host thread: on the [0-9]+ cores of NUMA node [1-9].*data: ok"
      --affinity away --mode manual -k 2 -m 4 --capacity 8MiB)
  else()
    uvmtrace_simulated_test(oversub_away_from_the_gpu oversub 2 "one NUMA node" --affinity away)
  endif()
  uvmtrace_simulated_test(oversub_too_large oversub 2 "more than the .* of free device memory" --capacity 1GiB)
  uvmtrace_simulated_test(oversub_time_limit oversub 1 "longer than --time-limit" --time-limit 0.000001)
  uvmtrace_simulated_test(known_bytes known_bytes 0 "host_to_device_bytes: 67108864.*data: ok")
  uvmtrace_simulated_test(known_bytes_too_large known_bytes 2 "no longer known" --bytes 66MiB)
  uvmtrace_simulated_test(zero_copy zero_copy 0 "data: ok")

  uvmtrace_simulated_test(a_static_runtime_is_told_apart known_bytes_static 2 "without _static")

  # A check that cannot fail proves nothing: one word is changed behind the program's back.
  add_library(uvmtrace_corrupting_cuda MODULE corrupting_cuda.cc)
  target_include_directories(uvmtrace_corrupting_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(uvmtrace_corrupting_cuda PRIVATE ${CMAKE_DL_LIBS})
  function(uvmtrace_corruption_test name)
    uvmtrace_simulated_test(finds_${name} ${ARGN})
    set_tests_properties(examples.simulated.finds_${name} PROPERTIES
      ENVIRONMENT "${simulator};LD_PRELOAD=$<TARGET_FILE:uvmtrace_corrupting_cuda>")
  endfunction()
  uvmtrace_corruption_test(a_wrong_managed_word oversub 1 "the kernel found 1 wrong words.*word 12345:" --mode uvm)
  uvmtrace_corruption_test(a_wrong_copied_word oversub 1 "the kernel found 1 wrong words.*word 12345:" --mode manual)
  uvmtrace_corruption_test(a_wrong_weight offload 1 "element .* should be" --layers 2 --variant on-demand)
  uvmtrace_corruption_test(a_wrong_block kv_remap 1 "kernels found 1 wrong words"
    --blocks 20 --slots 8 --window 3 --fresh 0 --steps 8 --design uvm-prefetch)
  uvmtrace_corruption_test(a_wrong_word_on_the_host known_bytes 1 "word 12345 of repetition 2" --repeat 2)
endif()

# Every row of the documents' tables, scaled down, on the simulator, traced: the bytes must equal each example's own ledger.
if(UVMTRACE_SANITIZE STREQUAL "")
  foreach(table oversub kv-fragmentation paged-attention offload kv-remap serve)
    add_test(NAME examples.tables.${table}
      COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/examples_tables.py --build ${CMAKE_BINARY_DIR} ${table})
    set_tests_properties(examples.tables.${table} PROPERTIES TIMEOUT 600 PROCESSORS 2)
  endforeach()
endif()

if(UVMTRACE_SANITIZE STREQUAL "")
  add_test(NAME examples.alike
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/examples_alike.py --build ${CMAKE_BINARY_DIR})
  set_tests_properties(examples.alike PROPERTIES TIMEOUT 300)
endif()

# The claim of one side of the discussion that kv_remap repeats: all of it without host synchronisation.
if(UVMTRACE_SANITIZE STREQUAL "")
  add_library(uvmtrace_counting_cuda MODULE counting_cuda.cc)
  target_include_directories(uvmtrace_counting_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(uvmtrace_counting_cuda PRIVATE ${CMAKE_DL_LIBS})
  add_test(NAME examples.kv_remap_never_waits
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/examples_waits.py --build ${CMAKE_BINARY_DIR}
            --counter $<TARGET_FILE:uvmtrace_counting_cuda>)
  set_tests_properties(examples.kv_remap_never_waits PROPERTIES TIMEOUT 300)
endif()

# What bounds each variant of offload, by the report and by the example's own times.
if(UVMTRACE_SANITIZE STREQUAL "")
  add_test(NAME examples.offload_bottlenecks
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/examples_bottlenecks.py --build ${CMAKE_BINARY_DIR})
  set_tests_properties(examples.offload_bottlenecks PROPERTIES TIMEOUT 300)
endif()
