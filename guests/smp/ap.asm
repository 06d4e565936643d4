; The second processor's way from the start-up IPI to smp_second() in long mode, under the first one's page tables.
; main.c copies [ap_code, ap_code_end) to AP_PAGE.
%include "guests/lib/long_mode.inc"

AP_PAGE equ 0x8000                      ; as in main.c
CODE32 equ 0x18

%define AT(label) (AP_PAGE + label - ap_code)

global ap_code, ap_code_end
extern boot_pml4, ap_stack_top, smp_second

section .rodata
bits 16
ap_code:
        cli
        xor ax, ax
        mov ds, ax
        o32 lgdt [AT(ap_gdtr)]
        mov eax, 1
        mov cr0, eax
        jmp dword CODE32:AT(ap_protected)

bits 32
ap_protected:
        mov ax, DATA64
        mov ds, ax
        mov ss, ax
        PAGING_ON
        jmp CODE64:AT(ap_long)

bits 64
ap_long:
        mov rsp, ap_stack_top
        xor ebp, ebp
        mov rax, smp_second
        call rax

        align 8
ap_gdt: dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
        dq 0x00cf9b000000ffff           ; CODE32
ap_gdtr:
        dw $ - ap_gdt - 1
        dd AT(ap_gdt)
ap_code_end:
