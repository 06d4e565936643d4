; VM entry and the exit that follows it. Unlike the library's, HOST_RSP is a field like others: L1's own stack pointer
; waits in memory.
bits 64
default abs

section .text

; int diff_enter(uint64_t regs[16], bool resume)
global diff_enter
diff_enter:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        mov [saved_regs], rdi
        mov [saved_rsp], rsp
        test sil, sil                   ; decides below: MOV leaves the flags alone
        mov rax, [rdi]
        mov rcx, [rdi + 8]
        mov rdx, [rdi + 16]
        mov rbx, [rdi + 24]
        mov rbp, [rdi + 40]
        mov rsi, [rdi + 48]
        mov r8, [rdi + 64]
        mov r9, [rdi + 72]
        mov r10, [rdi + 80]
        mov r11, [rdi + 88]
        mov r12, [rdi + 96]
        mov r13, [rdi + 104]
        mov r14, [rdi + 112]
        mov r15, [rdi + 120]
        mov rdi, [rdi + 56]
        jnz .resume
        vmlaunch
        jmp .failed
.resume:
        vmresume
.failed:
        mov eax, 1
        jc restore
        mov eax, 2
        jmp restore

global diff_exit_point, diff_exit_point_other
diff_exit_point_other:
        mov qword [exit_point], 1
        jmp from_exit
diff_exit_point:
        mov qword [exit_point], 0
from_exit:
        mov [exit_rsp], rsp
        mov rsp, [saved_rsp]
        pushfq
        pop qword [exit_rflags]
        push rdi
        mov rdi, [saved_regs]
        mov [rdi], rax
        mov [rdi + 8], rcx
        mov [rdi + 16], rdx
        mov [rdi + 24], rbx
        mov [rdi + 40], rbp
        mov [rdi + 48], rsi
        pop qword [rdi + 56]
        mov [rdi + 64], r8
        mov [rdi + 72], r9
        mov [rdi + 80], r10
        mov [rdi + 88], r11
        mov [rdi + 96], r12
        mov [rdi + 104], r13
        mov [rdi + 112], r14
        mov [rdi + 120], r15
        xor eax, eax
restore:
        mov rsp, [saved_rsp]
        cld
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret

; uint64_t diff_exit_stack(void): what HOST_RSP holds unless an operation varies it.
global diff_exit_stack
diff_exit_stack:
        mov rax, exit_stack_top
        ret

; void diff_unblock_nmi(void): IRET ends the blocking of NMIs that an exit may leave.
global diff_unblock_nmi
diff_unblock_nmi:
        mov rdx, rsp
        mov eax, ss
        push rax
        push rdx
        pushfq
        mov eax, cs
        push rax
        mov rax, .out
        push rax
        iretq
.out:   ret

section .bss
global exit_point, exit_rsp, exit_rflags
saved_regs: resq 1
saved_rsp: resq 1
exit_point: resq 1
exit_rsp: resq 1
exit_rflags: resq 1
exit_stack: resb 256
exit_stack_top:
