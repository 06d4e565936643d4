; From 64-bit mode to the environment of l1_legacy.h and back, and the handlers of its traps.

%include "guests/lib/registers.inc"
%include "guests/scenarios/l1_legacy.inc"

MSR_EFER equ 0xc0000080
CR0_PG equ 1 << 31
LAPIC_EOI equ 0xfee000b0
EFLAGS_INITIAL equ 2

extern legacy_gdt, legacy_control, legacy_trap, legacy_trap_counts, legacy_trap_counted, legacy_gdtr, legacy_idtr

section .text
bits 64
default abs

; void legacy_enter(void)
global legacy_enter, legacy_return
legacy_enter:
        PUSH_KEPT
        pushfq
        cli
        mov [saved_rsp], rsp
        sgdt [saved_gdtr]
        sidt [saved_idtr]
        str [saved_tr]
        mov rax, cr0
        mov [saved_cr0], eax
        mov rax, cr3
        mov [saved_cr3], eax
        mov rax, cr4
        mov [saved_cr4], eax
        mov ecx, MSR_EFER
        rdmsr
        mov [saved_efer], eax
        lgdt [legacy_gdtr]
        push qword L_CODE32
        push qword leave_long_mode
        retfq

bits 32
leave_long_mode:
        mov ax, L_DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov esp, legacy_main_stack
        mov eax, cr0
        and eax, ~CR0_PG
        xor eax, [legacy_control + 20]
        mov cr0, eax
        mov ecx, MSR_EFER
        xor edx, edx
        mov eax, [legacy_control + 12]
        wrmsr
        mov eax, [legacy_control + 8]
        mov cr4, eax
        mov eax, [legacy_control + 4]
        mov cr3, eax
        mov eax, [legacy_control]
        mov cr0, eax
        jmp L_CODE32:.serialized
.serialized:
        lidt [legacy_idtr]
        xor ax, ax
        lldt ax
        mov ax, L_MAIN_TSS
        ltr ax
        push dword EFLAGS_INITIAL
        popfd
        call [legacy_control + 16]
; From wherever the excursion ends, at CPL 0 with a flat CS.
legacy_return:
        cli
        cld
        mov ax, L_DATA
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov esp, legacy_main_stack
        push dword EFLAGS_INITIAL       ; no NT, no TF
        popfd
        str ax
        cmp ax, L_TASK16
        jne .tss
        mov ax, L_MAIN_TSS              ; one that IA-32e mode takes
        and byte [legacy_gdt + L_MAIN_TSS + 5], 0xfd
        ltr ax
.tss:   xor eax, eax
        mov dr7, eax
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        mov eax, [saved_cr4]
        mov cr4, eax
        mov eax, [saved_cr3]
        mov cr3, eax
        mov ecx, MSR_EFER
        xor edx, edx
        mov eax, [saved_efer]
        and eax, ~(1 << 10)             ; LMA
        wrmsr
        mov eax, [saved_cr0]
        mov cr0, eax
        lgdt [legacy_gdtr]
        jmp L_CODE64:.long

bits 64
.long:
        mov rsp, [saved_rsp]
        lgdt [saved_gdtr]
        lidt [saved_idtr]
        mov ax, L_DATA                  ; 0x10 in both tables
        mov ss, ax
        mov ds, ax
        mov es, ax
        xor eax, eax
        lldt ax
        movzx eax, word [saved_tr]
        mov rdx, [saved_gdtr + 2]
        and byte [rdx + rax + 5], 0xfd  ; LTR wants it available
        ltr ax
        popfq
        POP_KEPT
        ret

bits 32
%assign vector 0
%rep 256
align 16
legacy_stub_%[vector]:
%if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        push dword 0
%endif
        push dword vector
        jmp legacy_trapped
%assign vector vector + 1
%endrep

; On the stack: vector, error code, EIP, CS, EFLAGS, and from an outer level ESP, SS.
legacy_trapped:
        push ds
        pushad
        cld
        mov ax, L_DATA
        mov ds, ax
        mov es, ax
        lea esi, [esp + 36]
        mov edi, legacy_trap
        mov ecx, 7
        rep movsd
        xor eax, eax
        str ax
        stosd
        mov eax, cr2
        stosd
        mov eax, dr6
        stosd
        mov eax, [esp + 36]
        inc dword [legacy_trap_counts + eax * 4]
        cmp byte [legacy_trap_counted + eax], 0
        je legacy_return
        cmp eax, 0x40
        jb .resume
        mov dword [LAPIC_EOI], 0
.resume:
        popad
        pop ds
        add esp, 8
        iretd

section .rodata
align 8
global legacy_stubs
legacy_stubs:
%assign vector 0
%rep 256
        dq legacy_stub_%[vector]
%assign vector vector + 1
%endrep

section .bss
alignb 16
        resb 4096
legacy_main_stack:
saved_rsp: resq 1
saved_gdtr: resb 10
alignb 8
saved_idtr: resb 10
alignb 8
saved_tr: resw 1
alignb 4
saved_cr0: resd 1
saved_cr3: resd 1
saved_cr4: resd 1
saved_efer: resd 1
