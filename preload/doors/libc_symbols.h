// Functions of the C library's loader, found without the loader's help.
//
// Our own dlsym and dlvsym stand before the C library's in every scope, so neither can be used to find the other. The
// C library's symbol table is read in memory instead, as the loader reads it.
#pragma once

namespace uvmtrace {

// The default version of a function that libc.so.6 exports (before glibc 2.34: libdl.so.2). Null: not found.
void* LibcFunction(const char* name);

// The definition of a name that comes behind this library's in the loader's list: another preloaded library's, or the C
// library's. For what may run where the loader's lock cannot be taken: in a signal handler, in a forked child.
void* DefinitionBehindUs(const char* name);

using DlsymFunction = void* (*)(void* handle, const char* name);
using DlvsymFunction = void* (*)(void* handle, const char* name, const char* version);
using DlopenFunction = void* (*)(const char* file, int flags);

// The C library's dlsym and dlvsym. Never null: without them the process could not have been linked with us.
DlsymFunction LibcDlsym();
DlvsymFunction LibcDlvsym();

// What comes behind us: another preloaded library's, else the C library's.
DlsymFunction NextDlsym();
DlvsymFunction NextDlvsym();
DlopenFunction NextDlopen();

// False while the loader is at the libraries behind us: see libc_symbols.cc.
bool IsRelocated();

// Whether an address lies in this library.
bool IsOwnAddress(const void* address);

}  // namespace uvmtrace
