// The doors of dlsym.S for 64-bit ARM; see there for what they are and why they are tail jumps.
//
// x16 and x17 belong to nobody between a call and the function that it reaches: everything here is done in these two. The
// host's return address is in x30, which a tail jump leaves alone.

        .text

// Calls `function` with the argument registers as they are and keeps those that carry one. Its result is in x16.
.macro CALL_KEEPING function
        stp     x29, x30, [sp, #-48]!
        .cfi_adjust_cfa_offset 48
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        bl      \function
        mov     x16, x0
        ldp     x0, x1, [sp, #16]
        ldr     x2, [sp, #32]
        ldp     x29, x30, [sp], #48
        .cfi_restore x29
        .cfi_restore x30
        .cfi_adjust_cfa_offset -48
.endm

// Jumps to the real function. libc_symbols.cc finds it once.
.macro JUMP_ON name
        adrp    x17, uvmtrace_real_\name
        ldr     x16, [x17, #:lo12:uvmtrace_real_\name]
        cbnz    x16, 1f
        CALL_KEEPING uvmtrace_find_real_\name
1:      br      x16
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
        hint    #34                     // bti c
.endm

.macro END name
        .cfi_endproc
        .size   \name, . - \name
.endm

// Jumps to 9f unless a name in "cu" is asked for.
.macro UNLESS_CUDA_NAME
        adrp    x17, uvmtrace_slots_outdated
        ldrb    w16, [x17, #:lo12:uvmtrace_slots_outdated]
        cbz     w16, 8f
        CALL_KEEPING uvmtrace_scan_slots
8:      cbz     x1, 9f
        ldrb    w16, [x1]
        cmp     w16, #'c'
        b.ne    9f
        ldrb    w16, [x1, #1]
        cmp     w16, #'u'
        b.ne    9f
.endm

// void* dlsym(void* handle, const char* name)
        BEGIN   dlsym
        UNLESS_CUDA_NAME
        mov     x2, x30                 // the host's return address
        CALL_KEEPING uvmtrace_filter_dlsym
        cbz     x16, 9f
        mov     x0, x16
        ret
9:      JUMP_ON dlsym
        END     dlsym

// void* dlvsym(void* handle, const char* name, const char* version)
        BEGIN   dlvsym
        cbz     x1, 9f
        ldrb    w16, [x1]               // dlsym and its like: see FindOurs
        cmp     w16, #'d'
        b.ne    7f
        ldrb    w16, [x1, #1]
        cmp     w16, #'l'
        b.eq    6f
7:      UNLESS_CUDA_NAME
6:      mov     x3, x30
        CALL_KEEPING uvmtrace_filter_dlvsym
        cbz     x16, 9f
        mov     x0, x16
        ret
9:      JUMP_ON dlvsym
        END     dlvsym

// void* dlopen(const char* file, int flags)
        BEGIN   dlopen
        mov     x2, x30
        CALL_KEEPING uvmtrace_choose_dlopen
        br      x16
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
