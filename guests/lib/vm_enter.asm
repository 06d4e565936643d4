; VM entry and the exit that follows it, with all general registers of L2 exchanged.
bits 64

HOST_RSP equ 0x6c14

section .text

; int vm_enter_raw(uint64_t regs[16], bool resume): 0 after an exit, 1 for VMfailInvalid, 2 for VMfailValid.
; regs is in the order of the registers' numbers; slot 4 (RSP, which lives in the VMCS) is not used.
global vm_enter_raw
vm_enter_raw:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        push rdi
        mov rax, HOST_RSP
        vmwrite rax, rsp
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
        jc .out
        mov eax, 2
.out:   pop rdi
        jmp restore

; HOST_RIP. The stack is as it was at the entry: regs on top.
global vm_exit_point
vm_exit_point:
        push rdi
        mov rdi, [rsp + 8]
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
        add rsp, 8
        xor eax, eax
restore:
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret

; Where L2 code returns to when it is through: a VMCALL that L1 knows by RAX.
L2_DONE equ 0x600d
global l2_return
l2_return:
        mov eax, L2_DONE
        vmcall
        jmp l2_return
