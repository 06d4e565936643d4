; CPUID, VMREAD and VMWRITE of L1 in their usual form, with all registers in place (vmx/straight.h): they change nothing
; but L1's registers and vmcs12. RAX, RCX and RDX are put aside. All else takes the long way.
;
; The usual form is that of a 64-bit kernel with both operands in registers: no address is computed, so no page of L1 is
; walked and nothing can fault. vmcs01 is current from the exit to the entry; L1 is resumed behind its instruction, and
; the two ways differ in nothing that it could see.

%include "vmx/straight.inc"

extern vmcs12_rows, vmcs12_write_masks, slot_row_scope, straight_readable, straight_writable, straight_words ; nested/
extern long_way, long_way_rax, long_way_rcx
global straight_l1_alone
global end_cpuid, end_cpuid_last, end_vmread, end_vmread_last, end_vmwrite, end_vmwrite_last

; Of the instruction information: with INSN_INFO_IS_REGISTER operand 1 is a register, not memory. Its number is in bits
; 6:3, that of operand 2 in bits 31:28: SDM 3C 28.2.5. VMsucceed is RFLAGS_ARITHMETIC all 0: SDM 3C 31.2 "Conventions".
; Why RF is asked for with TF: vmx/skip.h.
%define TRAPS (RFLAGS_TF | RFLAGS_RF)

; The instruction pointer behind the instruction, in RCX; RDX: that of the instruction, RAX: GUEST_RIP.
%macro NEXT_RIP 0
        mov     ecx, EXIT_INSTRUCTION_LENGTH
        vmread  rcx, rcx
        mov     eax, GUEST_RIP
        vmread  rdx, rax
        add     rcx, rdx
%endmacro

; VMsucceed: L1 goes on behind its instruction, with the flags of S_FLAGS, and the exit is counted.
%macro SUCCEED 0
        NEXT_RIP
        COUNTED VMWRITES, 2
        vmwrite rax, rcx
        mov     edx, GUEST_RFLAGS
        vmwrite rdx, [CPU(S_FLAGS)]
        inc     qword [CPU(S_L1_EXITS)]
%endmacro
; L1's registers that were put aside.
%macro RESTORE 0
        mov     rcx, [CPU(S_RCX)]
        mov     rdx, [CPU(S_RDX)]
        mov     rax, [CPU(S_RAX)]
%endmacro

; The last look, and back to L1, whose registers are in place: a pair of straight_ends. Of another processor's changes
; none concerns L1 here, so S_QUIET does not matter; an NMI must be looked at.
%macro END_L1 1
%1:     cmp     byte [CPU(S_STOP)], 0
        jne     vmx_straight_again
%1_last:
        vmresume
        jmp     vmx_straight_failed
%endmacro

section .text

; From straight_exit_l1. EAX: the reason; L1's RAX is in S_RAX.
straight_l1_alone:
        cmp     byte [CPU(S_STOP)], 0
        jne     long_way_rax
        cmp     eax, EXIT_VMREAD
        je      l1_vmread
        cmp     eax, EXIT_VMWRITE
        je      l1_vmwrite
        cmp     eax, EXIT_CPUID
        je      l1_cpuid
        jmp     long_way_rax

; A leaf that L1 sees as the processor has it (cpuid_is_plain() of vmx/cpuid_policy), executed with L1's own registers.
; An instruction that is done ends the blocking by STI and MOV SS and, with TF set, traps: both are left to the long way
; (vmx/skip.c).
l1_cpuid:
        COUNTED VMREADS, 4
        READ    GUEST_INTERRUPTIBILITY
        test    al, BLOCKING
        jnz     long_way_rax
        READ    GUEST_RFLAGS
        test    eax, TRAPS
        jnz     long_way_rax
        mov     [CPU(S_RDX)], rdx
        mov     [CPU(S_RCX)], rcx
        mov     eax, [CPU(S_RAX)]       ; the leaf alone: BT on memory takes all of RAX for the number of a bit
        cmp     eax, 63
        ja      long_way_rcx
        bt      qword [CPU(S_PLAIN_LEAVES)], rax
        jnc     long_way_rcx
        NEXT_RIP
        xor     rdx, rcx                ; 32 bits of it may wrap outside 64-bit mode
        shr     rdx, 32
        jnz     long_way_rcx
        COUNTED VMWRITES, 1
        vmwrite rax, rcx
        inc     qword [CPU(S_L1_EXITS)]
        inc     qword [CPU(S_CPUIDS)]
        mov     rcx, [CPU(S_RCX)]
        mov     rax, [CPU(S_RAX)]
        cpuid
        END_L1  end_cpuid

; The encoding that operand 2 holds, in RAX at the places of %1; EDX: the instruction information. Goes the long way
; if L1 is no 64-bit kernel, or operand 1 is memory. S_FIELDS is NULL unless the current vmcs12 has a plan.
%macro FIELD_ROW 1
        cmp     qword [CPU(S_FIELDS)], 0
        je      long_way_rax
        COUNTED VMREADS, 6
        READ    GUEST_CS_AR_BYTES
        and     eax, AR_MODE
        cmp     eax, AR_KERNEL64
        jne     long_way_rax
        READ    GUEST_INTERRUPTIBILITY
        test    al, BLOCKING
        jnz     long_way_rax
        mov     [CPU(S_RDX)], rdx
        mov     [CPU(S_RCX)], rcx
        READ    GUEST_RFLAGS
        test    eax, TRAPS
        jnz     long_way_rcx
        mov     ecx, eax
        and     ecx, ~RFLAGS_ARITHMETIC & 0xffffffff
        mov     [CPU(S_FLAGS)], rcx     ; VMsucceed
        mov     eax, EXIT_INSTRUCTION_INFO
        vmread  rdx, rax
        test    edx, INSN_INFO_IS_REGISTER
        jz      long_way_rcx
        mov     eax, edx
        shr     eax, 28
        jmp     [%1_field + rax * 8]
%endmacro
; Where L1's registers are meanwhile, by their numbers; RSP is in the VMCS.
%define L1_0 [CPU(S_RAX)]
%define L1_1 [CPU(S_RCX)]
%define L1_2 [CPU(S_RDX)]
%define L1_3 rbx
%define L1_5 rbp
%define L1_6 rsi
%define L1_7 rdi
%define L1_8 r8
%define L1_9 r9
%define L1_10 r10
%define L1_11 r11
%define L1_12 r12
%define L1_13 r13
%define L1_14 r14
%define L1_15 r15
%macro GET 1                    ; into RAX
        mov     rax, L1_%1
%endmacro
%macro PUT 1
        mov     L1_%1, rax
%endmacro
; A place for each register, to which one jumps by a table: PLACES name, macro, where to go on
%macro PLACES 3
%assign number 0
%rep 16
%if number != 4
%1_%[number]:
        %2      number
        jmp     %3
%endif
%assign number number + 1
%endrep
%endmacro
%macro TABLE 2                  ; its name, that of the places
%1:
%assign number 0
%rep 16
%if number = 4
        dq      long_way_rcx            ; RSP is in the VMCS
%else
        dq      %2_%[number]
%endif
%assign number number + 1
%endrep
%endmacro
; RAX, an encoding: the row of vmx/vmcs_fields.def. To the long way, which knows the error number, when there is none.
%macro ROW_OF_ENCODING 0
        cmp     rax, STRAIGHT_ENCODINGS
        jae     long_way_rcx
        movzx   eax, byte [vmcs12_rows + rax]
        sub     eax, 1
        js      long_way_rcx
%endmacro

; The row's value is vmcs12's: rows whose newest value may be in vmcs02 alone, or that L1 reads from its shadow VMCS,
; are not in straight_readable.
l1_vmread:
        FIELD_ROW vmread
        PLACES  vmread_place, GET, vmread_named
vmread_named:
        ROW_OF_ENCODING
        bt      qword [straight_readable], rax
        jnc     long_way_rcx
        mov     [CPU(S_ROW)], rax
        shr     edx, 3
        and     edx, 15
        mov     [CPU(S_REGISTER)], rdx
        SUCCEED
        inc     qword [CPU(S_VMREADS)]
        mov     rcx, [CPU(S_FIELDS)]
        mov     rax, [CPU(S_ROW)]
        mov     rax, [rcx + rax * 8]
        mov     rdx, [CPU(S_REGISTER)]
        jmp     [vmread_to + rdx * 8]
        PLACES  vmread_put, PUT, vmread_done
vmread_done:
        RESTORE
        END_L1  end_vmread

; As VMREAD, but that the next entry must look at the row: it is made dirty, what checks it makes due is noted, and
; nothing is quiet any longer.
l1_vmwrite:
        FIELD_ROW vmwrite
        PLACES  vmwrite_place, GET, vmwrite_named
vmwrite_named:
        ROW_OF_ENCODING
        bt      qword [straight_writable], rax
        jnc     vmwrite_host
        mov     ecx, eax
        shr     edx, 3
        and     edx, 15
        jmp     [vmwrite_from + rdx * 8]
; An address of L1's host state: the plan's image has it, too, and nothing else asks for it (straight_write()).
vmwrite_host:
        movzx   ecx, byte [straight_words + rax]
        test    ecx, ecx
        jz      long_way_rcx
        mov     [CPU(S_ROW)], rax
        mov     [CPU(S_WORD)], rcx
        shr     edx, 3
        and     edx, 15
        jmp     [vmwrite_from_host + rdx * 8]
        PLACES  vmwrite_address, GET, vmwrite_host_value
vmwrite_host_value:
        mov     [CPU(S_REGISTER)], rax
        sar     rax, 47                 ; canonical on each CPU: the long way knows the wider ones
        add     rax, 1
        cmp     rax, 1
        ja      long_way_rcx
        SUCCEED
        mov     rdx, [CPU(S_REGISTER)]
        mov     rax, [CPU(S_ROW)]
        mov     rcx, [CPU(S_FIELDS)]
        mov     [rcx + rax * 8], rdx
        mov     rax, [CPU(S_WORD)]
        mov     rcx, [CPU(S_PLAN)]
        mov     [rcx + rax * 8 + P_IMAGE - 8], rdx
        RESTORE
        jmp     end_vmwrite

        PLACES  vmwrite_value, GET, vmwrite_done
; As nested/slot.h:slot_set_dirty. A row that is narrower than 64 bits takes no more of the value.
vmwrite_done:
        and     rax, [vmcs12_write_masks + rcx * 8]
        mov     rdx, [CPU(S_FIELDS)]
        mov     [rdx + rcx * 8], rax
        mov     rdx, [CPU(S_DIRTY)]
        bts     qword [rdx], rcx
        mov     eax, [slot_row_scope + rcx * 4]
        mov     rdx, [CPU(S_SCOPE)]
        or      [rdx], eax
        mov     byte [CPU(S_QUIET)], 0
        SUCCEED
        RESTORE
        END_L1  end_vmwrite

section .rodata
align 8
        TABLE   vmread_field, vmread_place
        TABLE   vmread_to, vmread_put
        TABLE   vmwrite_field, vmwrite_place
        TABLE   vmwrite_from, vmwrite_value
        TABLE   vmwrite_from_host, vmwrite_address

section .note.GNU-stack noalloc noexec nowrite progbits
