; Entry points of all 256 vectors. Each brings the stack to the form of struct trap_frame (kernel/trap.h).
bits 64

section .text
extern trap_handle

; Vectors for which the processor pushes an error code (SDM 3A 6.15 "Exception and Interrupt Reference").
%define HAS_ERROR_CODE(v) (v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)

%assign vector 0
%rep 256
stub_ %+ vector:
    %if !HAS_ERROR_CODE(vector)
        push 0
    %endif
        push vector
        jmp trap_common
    %assign vector vector + 1
%endrep

trap_common:
        cld
        push rax
        push rbx
        push rcx
        push rdx
        push rsi
        push rdi
        push rbp
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        mov rdi, rsp
        mov rbx, rsp
        and rsp, -16
        call trap_handle
        mov rsp, rbx
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rbp
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rbx
        pop rax
        add rsp, 16                     ; vector and error code
        iretq

section .rodata align=8
global trap_stubs
trap_stubs:
%assign vector 0
%rep 256
        dq stub_ %+ vector
    %assign vector vector + 1
%endrep
