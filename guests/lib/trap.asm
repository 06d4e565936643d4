; Interrupt gates of an L1 image, the jump buffer that fault_arm() fills, and the way to user mode and back.
bits 64

%include "guests/lib/selectors.inc"

section .text
extern trap_handle

; One stub per vector; those for which the CPU pushes no error code push a zero, so that all frames look alike.
%assign vector 0
%rep 256
align 16
trap_stub_%[vector]:
%if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        push qword 0
%endif
        push qword vector
        jmp trap_common
%assign vector vector + 1
%endrep

; The order of the pushes is struct trap_frame of trap.h, read from its end.
trap_common:
        push rax
        push rcx
        push rdx
        push rbx
        push rbp
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        mov rbp, rsp
        and rsp, -16
        call trap_handle
        mov rsp, rbp
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rdi
        pop rsi
        pop rbp
        pop rbx
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq

; int jump_set(struct jump_buffer *): returns 0, and once more with another value when somebody jumps.
global jump_set
jump_set:
        mov [rdi], rbx
        mov [rdi + 8], rbp
        mov [rdi + 16], r12
        mov [rdi + 24], r13
        mov [rdi + 32], r14
        mov [rdi + 40], r15
        lea rax, [rsp + 8]
        mov [rdi + 48], rax
        mov rax, [rsp]
        mov [rdi + 56], rax
        xor eax, eax
        ret

; void jump_to(const struct jump_buffer *, int value)
global jump_to
jump_to:
        mov rbx, [rdi]
        mov rbp, [rdi + 8]
        mov r12, [rdi + 16]
        mov r13, [rdi + 24]
        mov r14, [rdi + 32]
        mov r15, [rdi + 40]
        mov rsp, [rdi + 48]
        mov eax, esi
        jmp [rdi + 56]

; void user_enter(void (*code)(void), void *stack_top): runs code at CPL 3. It comes back through the trap handler only:
; by its own fault, or by the software interrupt that its return address leads to.
global user_enter
user_enter:
        lea rax, [rsi - 8]
        lea rcx, [rel user_return]
        mov [rax], rcx
        push USER_DATA
        push rax
        push qword 2
        push USER_CODE
        push rdi
        iretq

user_return:
        int USER_RETURN_VECTOR

section .rodata
align 8
global trap_stubs
trap_stubs:
%assign vector 0
%rep 256
        dq trap_stub_%[vector]
%assign vector vector + 1
%endrep
