# A cross build for 64-bit ARM with Debian's compiler (g++-aarch64-linux-gnu), against the libraries that
# scripts/arm64_sysroot unpacks. What is built runs under qemu-user, tests included.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(UVMTRACE_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/arm64-sysroot CACHE PATH "What scripts/arm64_sysroot made")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES UVMTRACE_SYSROOT)
set(CMAKE_SYSROOT ${UVMTRACE_SYSROOT})
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L ${UVMTRACE_SYSROOT})
# Programs (protoc, python3) are this machine's, and so are packages that are headers alone.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${UVMTRACE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${UVMTRACE_SYSROOT}/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${UVMTRACE_SYSROOT})
