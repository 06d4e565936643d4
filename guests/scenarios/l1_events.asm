; Handlers of l1_events.c that do more than be counted.

section .text
bits 64
default abs

LAPIC_ICR_LOW equ 0xfee00300
LAPIC_ICR_HIGH equ 0xfee00310
LAPIC_ID equ 0xfee00020
ICR_NMI equ 0x400

extern nmi_taken, nmi_nested, nmi_to_send

; NMI: sends itself others while nmi_to_send lasts, which must wait for the IRET.
global nmi_handler
nmi_handler:
        push rax
        push rbx
        push rcx
        push rdx
        inc dword [nmi_taken]
        cmp dword [nmi_to_send], 0
        je .done
        dec dword [nmi_to_send]
        mov ebx, [nmi_taken]
        mov ecx, LAPIC_ID
        mov eax, [rcx]
        mov ecx, LAPIC_ICR_HIGH
        mov [rcx], eax
        mov ecx, LAPIC_ICR_LOW
        mov dword [rcx], ICR_NMI
        push rbx
        xor eax, eax
        cpuid                           ; an exit does not end the blocking
        pop rbx
        nop
        cmp ebx, [nmi_taken]
        je .done
        inc dword [nmi_nested]
.done:  pop rdx
        pop rcx
        pop rbx
        pop rax
        iretq
