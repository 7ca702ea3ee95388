// The Python functions that a thread is in, as file, function and line, beside its native stack.
//
// What makes it hard is that the calls that matter release the interpreter's lock (the GIL) before they reach CUDA:
// PyTorch, CuPy, Numba, ctypes and cuda.bindings all do. The lock must not be taken here: the caller may hold a lock of
// its own (PyTorch's allocator does) for which the thread that holds the GIL is waiting. And without the GIL no
// reference may be counted, so the C API's frame functions are out of reach. There are two ways, then:
//
//   by layout  A thread's own frames stand still while it is in C, and they keep their code objects alive, so they can
//              be read without the GIL: the layout of frames does not change within a minor version
//              (python_layout.h). It is believed only after it has been checked in this process: each code object must
//              be of type PyCode_Type, and each of its names of type PyUnicode_Type.
//              One thing does not stand still: a finalizing interpreter frees the states and frames of daemon threads,
//              while they are in C. So frames are copied by reads that cannot fault, and what was copied is believed
//              only if the interpreter was not finalizing even then.
//   by API     Where the layout is not known, or was found wrong: the public C API, only while this thread holds the
//              GIL, with the pending exception kept and the garbage collector held off.
//
// Free-threaded builds and other Pythons are left alone, and the source "python_stacks" says so. Nothing is linked: the
// functions are looked up at run time, in the program or in libpython.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace uvmtrace {

// Looks for an interpreter, and says as source "python_stacks" what can be had. Again after a fork.
void StartPythonStacks();

// Fills `frames` with words of PythonFrame (record/event.h) for the calling thread, innermost first, and returns how
// many: 0 if it runs no Python, or none that can be read now. Looks for an interpreter now and then while there is
// none, since a program may load one later. Not from a signal handler.
size_t CapturePythonStack(std::span<uint64_t> frames);

// In a forked child: ids of the parent's trace mean nothing in the child's.
void ForgetPythonStacks();

}  // namespace uvmtrace
