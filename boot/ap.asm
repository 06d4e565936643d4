; From the start-up IPI (real mode, at a page below 1 MiB) to C code under Nestor's final tables.
; kernel/smp.c copies [ap_trampoline, ap_trampoline_end) to that page and fills the block at ap_trampoline_data
; (struct ap_start there). The tables of boot/entry.asm serve on the way: they have the page at its own address.
%include "boot/boot_values.inc"

CODE32 equ 0x18

%define AT(label) (label - ap_trampoline)

global ap_trampoline, ap_trampoline_end, ap_trampoline_data

section .rodata align=16
bits 16
ap_trampoline:
        cli
        cld
        mov ax, cs
        mov ds, ax
        movzx ebx, ax
        shl ebx, 4                      ; ebx: where this page lies
        lea eax, [ebx + AT(gdt)]
        mov [AT(gdtr) + 2], eax
        lea eax, [ebx + AT(protected_mode)]
        mov [AT(far_protected)], eax
        lea eax, [ebx + AT(long_mode)]
        mov [AT(far_long)], eax
        o32 lgdt [AT(gdtr)]
        mov eax, 1
        mov cr0, eax
        jmp far dword [AT(far_protected)]

bits 32
protected_mode:
        mov ax, DATA64
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, CR4_BITS
        mov cr4, eax
        mov eax, [ebx + AT(boot_cr3)]
        mov cr3, eax
        mov ecx, IA32_EFER
        rdmsr
        or eax, EFER_BITS
        wrmsr
        mov eax, CR0_BITS
        mov cr0, eax
        jmp far [ebx + AT(far_long)]

bits 64
long_mode:
        mov ebx, ebx
        mov rax, ap_high
        jmp rax

        align 8
gdt:    dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
        dq 0x00cf9b000000ffff           ; CODE32
gdtr:   dw $ - gdt - 1
        dd 0
far_protected:
        dd 0
        dw CODE32
far_long:
        dd 0
        dw CODE64
        align 8
ap_trampoline_data:                     ; struct ap_start
boot_cr3: dq 0
final_cr3: dq 0
stack_top: dq 0
cpu_block: dq 0
main_c: dq 0
ap_trampoline_end:

; In the image, which both sets of tables have at this address: the older one maps the copy that was loaded.
section .text
ap_high:
        mov rax, [rbx + AT(final_cr3)]
        mov rsp, [rbx + AT(stack_top)]
        mov rdi, [rbx + AT(cpu_block)]
        mov rsi, [rbx + AT(main_c)]
        mov cr3, rax
        xor ebp, ebp
        call rsi                        ; does not return
.hang:  hlt
        jmp .hang
