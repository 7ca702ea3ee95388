add_executable(sim_test sim_model_test.cc sim_prefetch_test.cc)
target_link_libraries(sim_test PRIVATE uvm_model GTest::gtest_main)
gtest_discover_tests(sim_test)
