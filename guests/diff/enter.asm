; VM entry and the exit that follows it. Unlike the library's, HOST_RSP is a field like others: L1's own stack pointer
; waits in memory.
%include "guests/lib/registers.inc"
bits 64
default abs

section .text

; int diff_enter(uint64_t regs[16], bool resume)
global diff_enter
diff_enter:
        PUSH_KEPT
        mov [saved_regs], rdi
        mov [saved_rsp], rsp
        test sil, sil                   ; decides below: MOV leaves the flags alone
        LOAD_REGISTERS
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
        SAVE_REGISTERS
        xor eax, eax
restore:
        mov rsp, [saved_rsp]
        cld
        POP_KEPT
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
