; VM entry and the exit that follows it, with all general registers of L2 exchanged.
%include "guests/lib/registers.inc"
bits 64

HOST_RSP equ 0x6c14
%ifdef ENLIGHTENED
; Of nested/evmcs/evmcs_fields.def and nested/evmcs/evmcs.h.
EVMCS_HOST_RSP equ 0x268
EVMCS_CLEAN_FIELDS equ 0x338
EVMCS_HOST_POINTER equ 1 << 13
EVMCS_CLEAN_ALL equ 0xffff
extern evmcs_page
%endif

section .text

; int vm_enter_raw(uint64_t regs[16], unsigned how): VMLAUNCH for 0, VMRESUME for 1, STI and VMRESUME for 2. 0 after an
; exit, 1 for VMfailInvalid, 2 for VMfailValid. regs is in the order of the registers' numbers; slot 4 (RSP, which lives
; in the VMCS) is not used.
global vm_enter_raw
vm_enter_raw:
        PUSH_KEPT
        push rdi
%ifdef ENLIGHTENED
        mov rax, [evmcs_page]
        mov [rax + EVMCS_HOST_RSP], rsp
        and dword [rax + EVMCS_CLEAN_FIELDS], ~EVMCS_HOST_POINTER
%else
        mov rax, HOST_RSP
        vmwrite rax, rsp
%endif
        cmp esi, 1                      ; decides below: MOV leaves the flags alone
        LOAD_REGISTERS
        je .resume
        ja .after_sti
        vmlaunch
        jmp .failed
.after_sti:
        sti                             ; which lets nothing in before the next instruction
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
        SAVE_REGISTERS
%ifdef ENLIGHTENED
        mov rax, [evmcs_page]           ; from here on what is written is said to be
        or dword [rax + EVMCS_CLEAN_FIELDS], EVMCS_CLEAN_ALL
%endif
        add rsp, 8
        xor eax, eax
restore:
        POP_KEPT
        ret

; Where L2 code returns to when it is through: a VMCALL that L1 knows by RAX.
L2_DONE equ 0x600d
global l2_return
l2_return:
        mov eax, L2_DONE
        vmcall
        jmp l2_return
