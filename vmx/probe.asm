; The guests of vmx/probe.c, and the way into them and back. They have Nestor's own page tables and segments, and
; interrupts off; an exit comes back as a return from probe_enter.

bits 64
default rel

global probe_enter, probe_exit
global probe_guest_call, probe_guest_spin
global probe_guest_runs

%include "vmx/vmx_values.inc"

section .text

; bool probe_enter(bool launched): true after an exit, false when the entry failed at once
probe_enter:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        mov     eax, HOST_RSP
        vmwrite rax, rsp
        jna     .failed
        test    dil, dil
        jnz     .launched
        vmlaunch
        jmp     .failed
.launched:
        vmresume
.failed:
        xor     eax, eax
        jmp     probe_return
probe_exit:                     ; HOST_RIP
        mov     eax, 1
probe_return:
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

; Exits by itself, after three instructions.
probe_guest_call:
        nop
        nop
        vmcall
        jmp     probe_guest_call

; Says that it runs, and runs on.
probe_guest_spin:
        mov     byte [probe_guest_runs], 1
.on:
        pause
        jmp     .on

section .bss
probe_guest_runs:       resb 1

section .note.GNU-stack noalloc noexec nowrite progbits
