; The second processor's way from the start-up IPI to smp_second() in long mode, under the first one's page tables.
; main.c copies [ap_code, ap_code_end) to AP_PAGE.

AP_PAGE equ 0x8000                      ; as in main.c
MSR_EFER equ 0xc0000080
EFER_LME equ 1 << 8
CR0_BITS equ 0x80010033                 ; PG WP NE ET MP PE
CR4_BITS equ 0x620                      ; PAE, OSFXSR, OSXMMEXCPT
CODE64 equ 0x08
CODE32 equ 0x18
DATA equ 0x10

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
        mov ax, DATA
        mov ds, ax
        mov ss, ax
        mov eax, CR4_BITS
        mov cr4, eax
        mov eax, boot_pml4
        mov cr3, eax
        mov ecx, MSR_EFER
        rdmsr
        or eax, EFER_LME
        wrmsr
        mov eax, CR0_BITS
        mov cr0, eax
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
        dq 0x00cf93000000ffff           ; DATA
        dq 0x00cf9b000000ffff           ; CODE32
ap_gdtr:
        dw $ - ap_gdt - 1
        dd AT(ap_gdt)
ap_code_end:
