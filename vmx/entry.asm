; The way into the guest and back. Contract in vmx/run.h.
;
; A processor that runs a guest has one run stack. Its topmost word holds the struct vcpu, and struct cpu says where it
; is, so an exit finds its vcpu there and the handler a fresh stack: nothing of L0 is kept across an entry, so no host
; register is saved or restored. HOST_RSP is not used: vmcs02 has L1's there (nested/shadow), so nothing may touch the
; stack before it is set; NMIs and machine checks have stacks of their own.

bits 64
default rel

%include "vmx/vmx_values.inc"

extern vcpu_handle_exit         ; enum vcpu_next vcpu_handle_exit(struct vcpu *)
extern vcpu_entry_failed        ; void vcpu_entry_failed(struct vcpu *)
extern vcpu_enter_again         ; void vcpu_enter_again(struct vcpu *)
extern vcpu_straight_checked    ; void vcpu_straight_checked(struct vcpu *)
extern straight_to_l1, straight_to_l2
global vmx_run
global vmx_enter_first, vmx_enter_launch, vmx_enter_resume, vmx_enter_again
global vmx_exit, vmx_exit_timed
global vmx_straight_again, vmx_straight_failed, vmx_straight_checked, straight_dead
global vmx_unblock_nmi

%define REG(n) (VCPU_REGS + 8 * n)      ; by the order of enum gpr, vmx/vmexit.h

section .text

; The guest's registers to its vcpu, which is in RDI then; RSP is the run stack's.
%macro SAVE_REGISTERS 0
        mov     rsp, [gs:abs CPU_STACK_WORD]
        push    rdi
        mov     rdi, [rsp + 8]
        mov     [rdi + REG(0)], rax
        mov     [rdi + REG(1)], rcx
        mov     [rdi + REG(2)], rdx
        mov     [rdi + REG(3)], rbx
        mov     [rdi + REG(5)], rbp
        mov     [rdi + REG(6)], rsi
        pop     qword [rdi + REG(7)]
        mov     [rdi + REG(8)], r8
        mov     [rdi + REG(9)], r9
        mov     [rdi + REG(10)], r10
        mov     [rdi + REG(11)], r11
        mov     [rdi + REG(12)], r12
        mov     [rdi + REG(13)], r13
        mov     [rdi + REG(14)], r14
        mov     [rdi + REG(15)], r15
%endmacro

; And back: RDI is the last. The flags stay as they are.
%macro LOAD_REGISTERS 0
        mov     rax, [rdi + REG(0)]
        mov     rcx, [rdi + REG(1)]
        mov     rdx, [rdi + REG(2)]
        mov     rbx, [rdi + REG(3)]
        mov     rbp, [rdi + REG(5)]
        mov     rsi, [rdi + REG(6)]
        mov     r8,  [rdi + REG(8)]
        mov     r9,  [rdi + REG(9)]
        mov     r10, [rdi + REG(10)]
        mov     r11, [rdi + REG(11)]
        mov     r12, [rdi + REG(12)]
        mov     r13, [rdi + REG(13)]
        mov     r14, [rdi + REG(14)]
        mov     r15, [rdi + REG(15)]
        mov     rdi, [rdi + REG(7)]
%endmacro

vmx_exit_timed:                 ; HOST_RIP with the option trace=
        mov     rsp, [gs:abs CPU_STACK_WORD]
        push    rax
        push    rdx
        rdtsc
        mov     [gs:abs CPU_EXIT_TSC], eax
        mov     [gs:abs CPU_EXIT_TSC + 4], edx
        mov     rdx, [rsp + 16]
        mov     byte [rdx + VCPU_ATTENTION], 1
        pop     rdx
        pop     rax

vmx_exit:                       ; where straight.asm leaves what it does not do
        SAVE_REGISTERS
        call    vcpu_handle_exit
        mov     rdi, [rsp]
        cmp     eax, NEXT_STRAIGHT_TO_L1
        jae     go_straight
enter_guest:                    ; rdi = vcpu
vmx_enter_first:
        cmp     byte [rdi + VCPU_ATTENTION], 0
        jne     vmx_enter_again
        cmp     byte [rdi + VCPU_LAUNCHED], 0
        LOAD_REGISTERS
        je      vmx_enter_launch
vmx_enter_resume:
        vmresume
        jmp     enter_failed
vmx_enter_launch:
        vmlaunch
enter_failed:                        ; VMfail: no guest state was loaded
        mov     rdi, [rsp]
        call    vcpu_entry_failed
        mov     rdi, [rsp]
        jmp     enter_guest
go_straight:                    ; what the long way found can go on by the straight one, of which this is no end
        LOAD_REGISTERS
        je      straight_to_l1
        jmp     straight_to_l2
vmx_enter_again:                ; an NMI came after the last look
        mov     rdi, [rsp]
        call    vcpu_enter_again
        mov     rdi, [rsp]
        jmp     enter_guest

; The straight way, about to enter a guest, with the guest's registers:
vmx_straight_again:             ; something came up
        SAVE_REGISTERS
        jmp     vmx_enter_again
vmx_straight_failed:            ; VMfail
        SAVE_REGISTERS
        jmp     enter_failed
vmx_straight_checked:           ; a checked build compares with the long way first
        SAVE_REGISTERS
        call    vcpu_straight_checked
        mov     rdi, [rsp]
        jmp     enter_guest
straight_dead:                  ; VMCLEAR, VMPTRLD or INVVPID failed; RSP may be L1's
        mov     rsp, [gs:abs CPU_STACK_WORD]
        ud2

; noreturn void vmx_run(struct vcpu *vcpu, void *stack_word)
vmx_run:
        mov     rsp, rsi
        mov     [rsp], rdi
        jmp     enter_guest

; void vmx_unblock_nmi(void): IRET to the return address with the caller's stack
vmx_unblock_nmi:
        pop     rdx
        mov     rax, rsp
        mov     ecx, ss
        push    rcx
        push    rax
        pushfq
        mov     ecx, cs
        push    rcx
        push    rdx
        iretq

section .note.GNU-stack noalloc noexec nowrite progbits
