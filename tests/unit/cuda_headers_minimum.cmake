# Fails unless the recorder says which headers it needs when it is given those of CUDA 12: COMPILER, SOURCE, FOLDER.
file(MAKE_DIRECTORY ${FOLDER})
file(WRITE ${FOLDER}/cuda.h "#define CUDA_VERSION 12080\n")
file(WRITE ${FOLDER}/cuda_runtime_api.h "")
execute_process(COMMAND ${COMPILER} -fsyntax-only -x c++ -I ${FOLDER} ${SOURCE}/preload/calls/cuda_api.h
  RESULT_VARIABLE result ERROR_VARIABLE error)
if(result EQUAL 0 OR NOT error MATCHES "built with the headers of CUDA 13.0 or later")
  message(FATAL_ERROR "headers of CUDA 12.8 gave ${result}: ${error}")
endif()
