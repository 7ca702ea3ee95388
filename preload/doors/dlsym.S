// dlsym, dlvsym, dlopen and dlmopen, interposed without becoming anybody's caller.
//
// The C library answers RTLD_NEXT and RTLD_DEFAULT, and finds a library by RUNPATH, by who is calling, which it reads from
// the return address. A wrapper that calls the real function puts itself there: a library that looks up its own symbol with
// RTLD_NEXT (LLVM's OpenMP does at import) then finds itself and recurses for ever, and a library that opens its neighbour
// by $ORIGIN does not find it. So these are tail jumps with every register as the host left it.
//
//   dlsym, dlvsym    C code looks closer if a name that begins with "cu" is asked for, and mostly jumps on. If files were
//                    loaded since the last scan of slots (slots.h), that comes first
//   dlopen           C code chooses what to jump to: the real one, or our own for a path that anybody opens alike
//   dlmopen          C code takes a note
#if defined(__aarch64__)
#include "preload/doors/dlsym_aarch64.S"
#elif !defined(__x86_64__)
#error "dlsym.S is written for x86_64 and aarch64"
#else

        .text

// Calls `function` with the first three argument registers as they are, and keeps all that carry an argument.
.macro CALL_KEEPING function
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        call    \function
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
.endm

// Jumps to the real function. libc_symbols.cc finds it once.
.macro JUMP_ON name
        movq    uvmtrace_real_\name(%rip), %rax
        testq   %rax, %rax
        jz      1f
        jmp     *%rax
1:      CALL_KEEPING uvmtrace_find_real_\name
        jmp     *%rax
        .hidden uvmtrace_real_\name
        .hidden uvmtrace_find_real_\name
.endm

.macro BEGIN name
        .globl  \name
        .type   \name, @function
        .globl  uvmtrace_own_\name      // the public name may be bound to another tool's
        .hidden uvmtrace_own_\name
        .p2align 4
uvmtrace_own_\name:
\name:
        .cfi_startproc
        endbr64
.endm

.macro END name
        .cfi_endproc
        .size   \name, . - \name
.endm

// Jumps to 9f unless a name in "cu" is asked for.
.macro UNLESS_CUDA_NAME
        cmpb    $0, uvmtrace_slots_outdated(%rip)
        je      8f
        CALL_KEEPING uvmtrace_scan_slots
8:      testq   %rsi, %rsi
        jz      9f
        cmpb    $'c', (%rsi)
        jne     9f
        cmpb    $'u', 1(%rsi)
        jne     9f
.endm

// void* dlsym(void* handle, const char* name)
        BEGIN   dlsym
        UNLESS_CUDA_NAME
        movq    (%rsp), %rdx            // the host's return address
        CALL_KEEPING uvmtrace_filter_dlsym
        testq   %rax, %rax
        jz      9f
        ret
9:      JUMP_ON dlsym
        END     dlsym

// void* dlvsym(void* handle, const char* name, const char* version)
        BEGIN   dlvsym
        testq   %rsi, %rsi
        jz      9f
        cmpb    $'d', (%rsi)            // dlsym and its like: see FindOurs
        jne     7f
        cmpb    $'l', 1(%rsi)
        je      6f
7:      UNLESS_CUDA_NAME
6:      movq    (%rsp), %rcx
        CALL_KEEPING uvmtrace_filter_dlvsym
        testq   %rax, %rax
        jz      9f
        ret
9:      JUMP_ON dlvsym
        END     dlvsym

// void* dlopen(const char* file, int flags)
        BEGIN   dlopen
        movq    (%rsp), %rdx
        CALL_KEEPING uvmtrace_choose_dlopen
        jmp     *%rax
        END     dlopen

// void* dlmopen(Lmid_t namespace, const char* file, int flags)
        BEGIN   dlmopen
        CALL_KEEPING uvmtrace_note_dlmopen
        JUMP_ON dlmopen
        END     dlmopen

        .hidden uvmtrace_slots_outdated
        .hidden uvmtrace_scan_slots
        .hidden uvmtrace_filter_dlsym
        .hidden uvmtrace_filter_dlvsym
        .hidden uvmtrace_choose_dlopen
        .hidden uvmtrace_note_dlmopen

        .section .note.GNU-stack, "", @progbits
#endif
