// dlsym, interposed without becoming anybody's caller.
//
// The C library answers RTLD_NEXT and RTLD_DEFAULT by who is calling, which it reads from the return address. A wrapper that
// calls the real dlsym puts itself there: a library that looks up its own symbol with RTLD_NEXT (LLVM's OpenMP does at
// import) then finds itself and recurses for ever. So this is a tail jump with every register as the host left it, unless
// a real handle is asked for a name that begins with "cu". Only then C code looks closer, and mostly jumps on as well.
#if !defined(__x86_64__)
#error "dlsym.S is written for x86_64"
#endif

        .text
        .globl  dlsym
        .type   dlsym, @function
        .p2align 4
dlsym:
        .cfi_startproc
        endbr64
        leaq    1(%rdi), %rax           // RTLD_DEFAULT is 0, RTLD_NEXT is -1
        cmpq    $1, %rax
        jbe     .Lpass
        testq   %rsi, %rsi
        jz      .Lpass
        cmpb    $'c', (%rsi)
        jne     .Lpass
        cmpb    $'u', 1(%rsi)
        jne     .Lpass
        movq    (%rsp), %rdx            // the host's return address
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    uvmtrace_filter_dlsym
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        testq   %rax, %rax
        jz      .Lpass
        ret
.Lpass:
        movq    uvmtrace_real_dlsym(%rip), %rax
        testq   %rax, %rax
        jz      .Lfind
        jmp     *%rax
.Lfind:
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    uvmtrace_find_real_dlsym
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        movq    %rax, uvmtrace_real_dlsym(%rip)
        jmp     *%rax
        .cfi_endproc
        .size   dlsym, . - dlsym

        .hidden uvmtrace_filter_dlsym
        .hidden uvmtrace_find_real_dlsym

        .local  uvmtrace_real_dlsym
        .comm   uvmtrace_real_dlsym, 8, 8

        .section .note.GNU-stack, "", @progbits
