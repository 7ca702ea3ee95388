"""What libuvmtrace.so may be to the process that loads it, read from the file itself.

  check_library.py libuvmtrace.so exports.map uvmtrace
"""

import pathlib
import re
import subprocess
import sys

# Of machine code. Every hook adds to it, and every process that preloads the library maps it.
TEXT_LIMIT = 600_000
STATIC_TLS_LIMIT = 64  # the static block's surplus is shared by every library of the process
ALLOWED_NEEDED = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "libgcc_s.so.1", "ld-linux-x86-64.so.2",
                  "ld-linux-aarch64.so.1"}
# A build on this glibc or an older one must not need a newer: 2.34 merged libdl and libpthread into libc, so anything that
# is linked on 2.34 or later needs it at least.
HIGHEST_GLIBC_FLOOR = (2, 34)
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main():
    library, exports_map, launcher = sys.argv[1:]
    failures = []

    def check(good, what):
        print(("ok      " if good else "FAILED  ") + what)
        if not good:
            failures.append(what)

    expected = set(re.findall(r"(\w+);", open(exports_map).read()))
    exported = {line.split()[-1] for line in output("nm", "-D", "--defined-only", library).splitlines()}
    check(exported == expected, f"exports exactly the {len(expected)} symbols of the list "
                                f"(more: {sorted(exported - expected)}, missing: {sorted(expected - exported)})")
    check(not any("@" in symbol for symbol in exported), "exports have no version: a named node would not bind")
    check(not any(symbol.startswith(("cu", "__cuda")) for symbol in exported), "answers for no function of CUDA's")

    dynamic = output("readelf", "-dW", library)
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    check(set(needed) <= ALLOWED_NEEDED, f"needs nothing but the C library's own files: {needed}")
    check("RPATH" not in dynamic and "RUNPATH" not in dynamic, "searches no folder of its own")
    check("SYMBOLIC" not in dynamic, "is not bound to itself: another preloaded library may stand before it")
    check("NODELETE" in dynamic, "is never unloaded")
    check("TEXTREL" not in dynamic, "has no text relocations")

    sections = re.findall(r"\] (\.\w+)\s+\w+\s+\w+\s+\w+\s+(\w+)", output("readelf", "-SW", library))
    sizes = {name: int(size, 16) for name, size in sections}
    check(sizes[".text"] < TEXT_LIMIT, f".text has {sizes['.text']} bytes, under {TEXT_LIMIT} (.rodata {sizes['.rodata']})")

    # One entry is the compiler's own frame_dummy. The others look at the callers' slots (preload/doors/slots.cc) and keep
    # forks apart from such looks (preload/stacks/fork_guard.cc).
    init_array = re.search(r"INIT_ARRAYSZ\)\s+(\d+)", dynamic)
    check(init_array is None or int(init_array.group(1)) <= 24, "has two constructors")
    check("PREINIT_ARRAY" not in dynamic, "has nothing that runs before constructors")
    local = {line.split()[-1] for line in output("nm", library).splitlines()}
    check(not any(name.startswith(("_GLOBAL__sub_I", "__cxx_global_var_init", "_GLOBAL__I")) for name in local),
          "has no dynamic initialisers")

    undefined = {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--undefined-only", library).splitlines()}
    for function in ("dlsym", "dlvsym", "dlopen", "dlmopen"):
        check(function not in undefined, f"does not import {function}: it is our own")
    unresolved = [line for line in output("readelf", "-rW", library).splitlines() if " dlsym" in line]
    check(not unresolved, f"takes no address of the public dlsym ({unresolved})")
    calls = re.findall(r"(?:call|jmp)\s+\S+ <dlsym(?:@plt)?>", output("objdump", "-d", "--no-show-raw-insn", library))
    check(not calls, f"does not call the public dlsym: it is our own ({calls})")
    for function in ("abort", "exit", "__assert_fail", "signal", "sigaction", "printf", "puts", "stdout", "setenv",
                     "putenv"):
        check(function not in undefined, f"does not import {function}")
    check(not any(name.startswith(("_Zn", "_Zd", "__cxa_throw", "__cxa_guard")) for name in undefined),
          "uses no C++ runtime")

    segments = output("readelf", "-lW", library)
    tls = re.search(r"^\s+TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", segments, re.M)
    tls_bytes = int(tls.group(1), 16) if tls else 0
    check(tls_bytes <= STATIC_TLS_LIMIT, f"static thread-local memory: {tls_bytes} of at most {STATIC_TLS_LIMIT} bytes")
    check("RWE" not in segments, "has no segment that is writable and executable")

    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+\.\d+)", output("objdump", "-T", library))}
    floor = max(versions)
    check(floor <= HIGHEST_GLIBC_FLOOR, f"the lowest glibc that it runs with: {'.'.join(map(str, floor))}, "
                                        f"at most {'.'.join(map(str, HIGHEST_GLIBC_FLOOR))}")
    told = re.search(r"libuvmtrace\.so needs glibc ([0-9.]+) or later", output(launcher, "--version"))
    check(told is not None and told.group(1) == ".".join(map(str, floor)),
          f"uvmtrace --version tells this floor ({told and told.group(1)})")
    documented = re.findall(r"glibc (\d+\.\d+)", open(README).read())
    check(".".join(map(str, HIGHEST_GLIBC_FLOOR)) in documented, f"README.md tells it as well ({documented})")
    check("GLIBC_PRIVATE" not in output("objdump", "-T", library), "uses no private symbol of the C library")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
