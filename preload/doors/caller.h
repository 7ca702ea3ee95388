// Which libcudart a call through our exported symbols is meant for.
//
// Our symbols have no version, so they stand in for cudaMalloc@libcudart.so.12 and for cudaMalloc@libcudart.so.13
// alike. In a process with two runtimes (a framework that brings its own, an extension that brings another) the next
// definition in the global scope may be the wrong one, with another signature under the same name. So the call goes on
// to the libcudart that the calling file is linked with, unless another preloaded library stands before them all: that
// one would have got the call without us.
//
// A caller that is linked with no libcudart (it was reached by a tail call from one that is) gets the first one, and
// the trace says so.
//
// The answer is remembered for each call site, so it is found out once.
#pragma once

#include "preload/calls/functions.h"

namespace uvmtrace {

// `call_site` is the return address of the exported function. Null: nothing there; see ResolveNext.
void* RuntimeTarget(FunctionId id, const void* call_site);

// The same for a function that is not in the list, and not remembered.
void* RuntimeSymbolFor(const void* call_site, const char* name);

}  // namespace uvmtrace
