# The CUDA Toolkit: headers for the recorder and the simulator, nvcc for the examples. Nothing that is built here needs a
# GPU or a driver, and nothing but the examples links the toolkit's libraries.
if(NOT DEFINED CUDAToolkit_ROOT AND DEFINED ENV{CUDA_HOME})
  set(CUDAToolkit_ROOT $ENV{CUDA_HOME})
endif()
if(CMAKE_CROSSCOMPILING)
  # The headers are the same files on every architecture. Without the other one's libraries there is no nvcc for it, and so
  # neither examples nor other CUDA programs.
  set(UVMTRACE_CUDA_PROGRAMS OFF)
  find_path(CUDAToolkit_INCLUDE_DIRS cuda_runtime.h
    HINTS ${CUDAToolkit_ROOT}/include /usr/local/cuda/include NO_CMAKE_FIND_ROOT_PATH)
  get_filename_component(CUDAToolkit_LIBRARY_DIR ${CUDAToolkit_INCLUDE_DIRS}/../lib64 REALPATH)
else()
  set(UVMTRACE_CUDA_PROGRAMS ON)
  find_package(CUDAToolkit 13.0 QUIET)
endif()
if(NOT CUDAToolkit_FOUND AND NOT CUDAToolkit_INCLUDE_DIRS)
  message(FATAL_ERROR
    "The CUDA Toolkit (13.0 or later, with CUPTI headers) was not found.\n"
    "Install it from https://developer.nvidia.com/cuda-downloads, or point to it: cmake -DCUDAToolkit_ROOT=/usr/local/cuda")
endif()
find_path(UVMTRACE_CUPTI_INCLUDE_DIR cupti.h
  HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_TARGET_DIR}/extras/CUPTI/include
        ${CUDAToolkit_BIN_DIR}/../extras/CUPTI/include NO_CMAKE_FIND_ROOT_PATH)
if(NOT UVMTRACE_CUPTI_INCLUDE_DIR)
  message(FATAL_ERROR "cupti.h was not found beside the CUDA Toolkit in ${CUDAToolkit_INCLUDE_DIRS}. "
                      "Install the toolkit's CUPTI component (cuda-cupti-dev).")
endif()

# Headers only: the recorder must not need libcudart, libcuda or libcupti.
add_library(uvmtrace_cuda_headers INTERFACE)
target_include_directories(uvmtrace_cuda_headers SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS} ${UVMTRACE_CUPTI_INCLUDE_DIR})

if(NOT UVMTRACE_CUDA_PROGRAMS)
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
set(CMAKE_CUDA_STANDARD 17)
enable_language(CUDA)
