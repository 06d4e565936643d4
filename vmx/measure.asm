; The guest of vmx/measure.c, and the timed way into it and back. The guest changes no register, so the time before the
; entry stays in RBX.

bits 64
default rel

global measure_round_trip, measure_exit, measure_guest

%include "vmx/vmx_values.inc"

BY_VMRESUME     equ 1                   ; as in vmx/measure.c

; RAX = the time-stamp counter. Changes RDX.
%macro FENCED_TSC 0
        lfence
        rdtsc
        lfence
        shl     rdx, 32
        or      rax, rdx
%endmacro

section .text

; uint64_t measure_round_trip(unsigned how)
measure_round_trip:
        push    rbx
        mov     eax, HOST_RSP
        vmwrite rax, rsp
        FENCED_TSC
        mov     rbx, rax
        cmp     edi, BY_VMRESUME
        ja      measure_exit
        je      .resume
        vmlaunch
        jmp     .failed
.resume:
        vmresume
.failed:
        mov     rax, -1
        pop     rbx
        ret
measure_exit:                           ; HOST_RIP
        FENCED_TSC
        sub     rax, rbx
        pop     rbx
        ret

; RIP stays at the VMCALL, so each entry begins there.
measure_guest:
        vmcall
        jmp     measure_guest

section .note.GNU-stack noalloc noexec nowrite progbits
