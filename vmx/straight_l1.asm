; CPUID, VMREAD, VMWRITE, VMPTRLD, INVEPT and INVVPID of L1 in their usual form, with all registers in place
; (vmx/straight.h). Beside L1's registers they change vmcs12, which of those that Nestor holds is current, or nothing.
; RAX, RCX and RDX are put aside. All else takes the long way.
;
; The usual form is that of a 64-bit kernel: fields with both operands in registers; an operand in memory on a page
; whose walk gva_plain() has kept, which is looked at again, so that nothing can fault. vmcs01 is current from the exit
; to the entry; L1 is resumed behind its instruction, and the two ways differ in nothing that it could see.

%include "vmx/straight.inc"

extern vmcs12_rows, vmcs12_write_masks, slot_row_scope, straight_readable, straight_writable, straight_words ; nested/
extern long_way, long_way_rax, long_way_rcx
extern nested_hooks              ; vmx/hooks
global straight_l1_alone
global end_cpuid, end_cpuid_last, end_vmread, end_vmread_last, end_vmwrite, end_vmwrite_last
global end_vmptrld, end_vmptrld_last, end_invept, end_invept_last, end_invvpid, end_invvpid_last

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
        cmp     eax, EXIT_VMPTRLD
        je      l1_vmptrld
        cmp     eax, EXIT_INVEPT
        je      l1_invept
        jb      long_way_rax            ; most others
        cmp     eax, EXIT_INVVPID
        je      l1_invvpid
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

; The usual form's mode and state, for an instruction that ends with VMsucceed; EDX: the instruction information.
; S_FIELDS is NULL unless the current vmcs12 has a plan.
%macro USUAL 0
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
%endmacro
; The encoding that operand 2 holds, in RAX at the places of %1; EDX as above. Goes the long way if operand 1 is memory.
%macro FIELD_ROW 1
        USUAL
        test    edx, INSN_INFO_IS_REGISTER
        jz      long_way_rcx
        mov     eax, edx
        shr     eax, REG2_SHIFT
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
%macro TABLE 2-3 long_way_rcx    ; its name, that of the places, and RSP's, which is in the VMCS
%1:
%assign number 0
%rep 16
%if number = 4
        dq      %3
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
        mov     rdx, [CPU(S_PLAN)]
        bts     qword [rdx + P_DIRTY], rcx
        mov     eax, [slot_row_scope + rcx * 4]
        or      [rdx + P_SCOPE], eax
        mov     byte [CPU(S_QUIET)], 0
        SUCCEED
        RESTORE
        END_L1  end_vmwrite

; The operand in memory of VMPTRLD, INVEPT or INVVPID, at RAX in the end: base and displacement, and a walk that is
; what it was when gva_plain() walked. OPERAND name; EDX: the instruction information.
%macro OPERAND 1
        mov     ecx, edx
        and     ecx, OPERAND_JUDGED
        cmp     ecx, OPERAND_MUST
        jne     long_way_rcx
        shr     edx, BASE_SHIFT
        and     edx, 15
        jmp     [%1_base + rdx * 8]
%1_rsp:
        COUNTED VMREADS, 1
        READ    GUEST_RSP
        jmp     %1_based
        PLACES  %1_place, GET, %1_based
%1_based:
        COUNTED VMREADS, 5
        mov     ecx, EXIT_QUALIFICATION
        vmread  rcx, rcx
        add     rcx, rax
        READ    GUEST_DR7               ; a breakpoint may be on it
        test    al, DR7_ENABLED
        jnz     long_way_rcx
        mov     edx, ecx
        and     edx, (PLAIN_WALKS - 1) * PAGE_SIZE
        shr     edx, PAGE_SHIFT - WALK_SHIFT
        add     rdx, gs:[abs CPU_VCPU]
        sub     rcx, [rdx + VCPU_WALK + W_PAGE]
        cmp     rcx, PAGE_SIZE - 16     ; no operand is longer
        ja      long_way_rcx
        READ    GUEST_CR3
        cmp     [rdx + VCPU_WALK + W_CR3], rax
        jne     long_way_rcx
        READ    GUEST_CR4
        cmp     [rdx + VCPU_WALK + W_CR4], rax
        jne     long_way_rcx
        READ    GUEST_EFER
        cmp     [rdx + VCPU_WALK + W_EFER], rax
        jne     long_way_rcx
%assign depth 0
%rep 4
        mov     rax, [rdx + VCPU_WALK + W_ENTRY + 8 * depth]
        mov     rax, [rax]
        cmp     rax, [rdx + VCPU_WALK + W_VALUE + 8 * depth]
        jne     long_way_rcx
%assign depth depth + 1
%endrep
        mov     rax, [rdx + VCPU_WALK + W_AT]
        add     rax, rcx
%endmacro

; A vmcs12 that Nestor holds and that has a plan, so that its vmcs02 may be shown in the place of the current one's.
; When L1 was there last all was quiet, and has been since (nested/quiet.c:look): it goes on straight from here.
; nested/insn.c:insn_exit_vmptrld
l1_vmptrld:
        USUAL
        OPERAND vmptrld
        mov     rax, [rax]
        mov     ecx, eax
        shr     ecx, PAGE_SHIFT
        and     ecx, STRAIGHT_HELD - 1
        mov     rdx, [CPU(S_HELD) + rcx * 8]
        cmp     [rdx + P_VMPTR], rax
        jne     long_way_rcx
        cmp     byte [CPU(S_QUIET)], QUIET_ALL
        jne     vmptrld_unknown
        mov     rcx, [CPU(S_EPOCH)]
        cmp     [rdx + P_EPOCH], rcx
        jne     vmptrld_unknown
        mov     rcx, [rdx + P_REGION]
        mov     ecx, [rcx]
        cmp     ecx, [rdx + P_IDENTIFIER]
        jne     long_way_rcx
        mov     rcx, [CPU(S_PLAN)]      ; of the vmcs12 that L1 leaves
        mov     rax, [CPU(S_MOVES)]
        sub     rax, [CPU(S_MOVES_THEN)]
        add     [rcx + P_MOVES], rax
        add     [CPU(S_MOVES_THEN)], rax
vmptrld_found:
        COUNTED VMWRITES, 1
        mov     rax, [rdx + P_VMCS02]
        mov     ecx, VMCS_LINK_POINTER
        vmwrite rcx, rax
        mov     rcx, [CPU(S_CURRENT)]
        mov     [rcx + CURRENT_SHOWN], rax
        mov     rax, [rdx + P_SLOT]
        mov     [rcx + CURRENT_SLOT], rax
        mov     [CPU(S_PLAN)], rdx
        mov     rax, [rdx + P_FIELDS]
        mov     [CPU(S_FIELDS)], rax
vmptrld_done:
        SUCCEED
        inc     qword [CPU(S_VMPTRLDS)]
        RESTORE
        END_L1  end_vmptrld

; Behind entries or exits all is asked at once, as L1 enters this one next.
vmptrld_unknown:
        cmp     byte [rdx + P_MADE], 0
        je      long_way_rcx
        mov     rcx, [rdx + P_REGION]
        mov     ecx, [rcx]
        cmp     ecx, [rdx + P_IDENTIFIER]
        jne     long_way_rcx
        mov     rax, [CPU(S_CURRENT)]
        cmp     qword [rax + CURRENT_SHOWN], 0
        je      long_way_rcx
        mov     rax, [CPU(S_MOVES)]
        cmp     rax, [CPU(S_MOVES_THEN)]
        jne     vmptrld_entered
        cmp     byte [CPU(S_ENTERED)], 0
        jne     vmptrld_entered
        mov     byte [CPU(S_QUIET)], 0
        inc     qword [CPU(S_CLOCK)]
        mov     rax, [CPU(S_CLOCK)]
        mov     [rdx + P_USED], rax
        jmp     vmptrld_found
vmptrld_entered:
        CALL_C  [nested_hooks + HOOK_VMPTRLD_USUAL], rdx
        jmp     vmptrld_done

; INVEPT of one EPTP is owed from here on, at the next entry, unless it is already: nested/ept02/ept02.c:owe_matching
l1_invept:
        USUAL
        mov     [CPU(S_ROW)], rdx
        OPERAND invept
        mov     rcx, [rax]
        mov     edx, [CPU(S_ROW)]
        shr     edx, REG2_SHIFT
        jmp     [invept_type + rdx * 8]
        PLACES  invept_typed, GET, invept_known
invept_known:
        cmp     rax, INVEPT_SINGLE
        jne     invept_owe
        cmp     byte [CPU(S_EPTP_IS_OWED)], 0
        je      invept_owe
        cmp     rcx, [CPU(S_EPTP_OWED)]
        jne     invept_owe
invept_owed:
        SUCCEED
        inc     qword [CPU(S_INVEPTS)]
        RESTORE
        END_L1  end_invept

invept_owe:
        CALL_C  [nested_hooks + HOOK_INVEPT_USUAL], rax, rcx
        test    al, al
        jnz     invept_owed
        jmp     long_way_rcx

; INVVPID is done at once, and no entry has anything to look at for it: nested/insn_invalidate.c:insn_invvpid_usual
l1_invvpid:
        USUAL
        mov     [CPU(S_ROW)], rdx
        OPERAND invvpid
        mov     rcx, rax
        mov     edx, [CPU(S_ROW)]
        shr     edx, REG2_SHIFT
        jmp     [invvpid_type + rdx * 8]
        PLACES  invvpid_typed, GET, invvpid_known
invvpid_known:
        CALL_C  [nested_hooks + HOOK_INVVPID_USUAL], rax, rcx
        test    al, al
        jz      long_way_rcx
        SUCCEED
        inc     qword [CPU(S_INVVPIDS)]
        RESTORE
        END_L1  end_invvpid

section .rodata
align 8
        TABLE   invvpid_base, invvpid_place, invvpid_rsp
        TABLE   invvpid_type, invvpid_typed
        TABLE   vmptrld_base, vmptrld_place, vmptrld_rsp
        TABLE   invept_base, invept_place, invept_rsp
        TABLE   invept_type, invept_typed
        TABLE   vmread_field, vmread_place
        TABLE   vmread_to, vmread_put
        TABLE   vmwrite_field, vmwrite_place
        TABLE   vmwrite_from, vmwrite_value
        TABLE   vmwrite_from_host, vmwrite_address

section .note.GNU-stack noalloc noexec nowrite progbits
