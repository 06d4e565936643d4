; void levels_5(void *pml5): from 4-level to 5-level paging, by which a firmware may call nestor.efi, too. The table,
; the stack and this code lie below 4 GiB and are mapped one to one by both. For tests/vm/lib_look.c.
; SDM 3A 2.5 "Control Registers", CR4.LA57: it can be changed outside IA-32e mode alone.
bits 64
default rel

%include "guests/lib/registers.inc"

CODE64 equ 8
DATA equ 0x10
CODE32 equ 0x18
CR0_PG equ 31
CR4_LA57 equ 12

global levels_5

section .text
levels_5:
        PUSH_KEPT
        pushfq
        cli
        mov     eax, ds
        push    rax
        mov     eax, cs
        push    rax
        sub     rsp, 16
        sgdt    [rsp]
        lea     rax, [gdt]
        mov     [gdtr + 2], rax
        lgdt    [gdtr]
        mov     eax, DATA
        mov     ds, eax
        mov     rbx, cr4
        bts     ebx, CR4_LA57
        lea     rax, [narrow]
        mov     [to_narrow], eax
        lea     rax, [wide]
        mov     [to_wide], eax
        lea     rcx, [to_wide]
        jmp     far dword [to_narrow]
bits 32
narrow: mov     eax, cr0
        btr     eax, CR0_PG
        mov     cr0, eax
        mov     cr4, ebx
        mov     cr3, edi
        bts     eax, CR0_PG
        mov     cr0, eax
        jmp     far [ecx]
bits 64
wide:   mov     esp, esp
        lgdt    [rsp]
        add     rsp, 16
        lea     rax, [.own]
        push    rax                     ; below the firmware's CS
        o64 retf
.own:   pop     rax
        mov     ds, eax
        popfq
        POP_KEPT
        ret

section .data
gdtr:   dw gdt_end - gdt - 1
        dq 0
gdt:    dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA
        dq 0x00cf9b000000ffff           ; CODE32
gdt_end:
to_narrow: dd 0
        dw CODE32
to_wide: dd 0
        dw CODE64

section .note.GNU-stack noalloc noexec nowrite progbits
