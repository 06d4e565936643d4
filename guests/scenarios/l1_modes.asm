; Code of l1_modes.c for every mode but 64-bit. The 16-bit pieces are copied to MODES_BASE, below 64 KiB, and use only
; addresses there.

%include "guests/scenarios/l1_legacy.inc"

MODES_BASE equ 0x8000
RESULTS equ 0x9000                      ; struct modes_results
E820_BUFFER equ 0x9100
REAL_STACK equ 0x7000
MSR_FEATURE_CONTROL equ 0x3a
MSR_VMX_BASIC equ 0x480
MSR_EFER equ 0xc0000080
CR4_VMXE equ 1 << 13
CR0_PG equ 1 << 31
IVT_UD equ 6 * 4
IVT_GP equ 13 * 4

extern legacy_return, modes_value, modes_place, modes_region, modes_cr3

%define LOW(label) (MODES_BASE + label - modes_low)

section .text

; 32-bit entry: to 16-bit protected mode, from there to real mode and back.
bits 32
default abs
global modes_to_real, modes_to_16bit
modes_to_real:
        lidt [real_idtr]
        jmp L_CODE16:LOW(low_to_real)
modes_to_16bit:
        jmp L_CODE16:LOW(low_16bit)

bits 16
global modes_low, modes_low_end
modes_low:
low_to_real:
        mov ax, L_DATA16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov eax, cr0
        and al, 0xfe
        xor eax, [RESULTS + 60]         ; bits to flip with PE
        mov cr0, eax
        jmp 0:LOW(low_real)
low_real:
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, REAL_STACK
; CPUID and an MSR that a hypervisor keeps.
        xor eax, eax
        cpuid
        mov [RESULTS], eax
        mov [RESULTS + 4], ebx
        mov ecx, MSR_FEATURE_CONTROL
        rdmsr
        mov [RESULTS + 8], eax
; Faults: no error code in this mode.
        mov ecx, [IVT_GP]
        mov esi, [IVT_UD]
        mov word [IVT_GP], LOW(low_fault)
        mov word [IVT_GP + 2], 0
        mov word [IVT_UD], LOW(low_fault)
        mov word [IVT_UD + 2], 0
        push ecx
        mov ecx, MSR_VMX_BASIC
        wrmsr
        vmxon [RESULTS]
        pop dword [IVT_GP]
        mov [IVT_UD], esi
; CR4.VMXE and back.
        mov eax, cr4
        or eax, CR4_VMXE
        mov cr4, eax
        mov ecx, cr4
        mov [RESULTS + 20], ecx
        and eax, ~CR4_VMXE
        mov cr4, eax
; The BIOS: a character on the screen, the first entry of the memory map, the equipment word.
        mov ax, 0x0e2a
        mov bx, 7
        int 0x10
        mov eax, 0xe820
        mov edx, 0x534d4150             ; SMAP
        xor ebx, ebx
        mov ecx, 20
        mov di, E820_BUFFER
        int 0x15
        mov [RESULTS + 24], eax
        mov [RESULTS + 28], ecx
        int 0x11
        mov [RESULTS + 32], ax
        cli
        lidt [LOW(low_idtr)]
        mov eax, cr0
        or al, 1
        xor eax, [RESULTS + 60]
        mov cr0, eax
        jmp dword L_CODE32:legacy_return

; Counts itself, keeps SP and IP, and steps over what faulted (WRMSR has 2 bytes, VMXON [disp16] 5).
low_fault:
        push bp
        mov bp, sp
        push bx
        mov bx, [RESULTS + 12]
        inc word [RESULTS + 12]
        shl bx, 1
        mov [RESULTS + 14 + bx], sp
        cmp bx, 0
        mov bx, 5
        jne .skip
        mov bx, 2
.skip:  add [bp + 2], bx
        pop bx
        pop bp
        iret

; 16-bit protected mode: what exits, then a fault.
low_16bit:
        mov ax, L_DATA16
        mov ds, ax
        mov ss, ax
        mov esp, REAL_STACK
        xor eax, eax
        cpuid
        mov [RESULTS], eax
        mov [RESULTS + 4], ebx
        mov ecx, MSR_FEATURE_CONTROL
        rdmsr
        mov [RESULTS + 8], eax
        mov dx, 0xcf9
        in al, dx
        mov eax, cr4
        xor eax, CR4_VMXE
        mov cr4, eax
        xor eax, CR4_VMXE
        mov cr4, eax
        smsw ax
        mov [RESULTS + 16], ax
        mov ecx, MSR_VMX_BASIC
        jmp low_16bit_fault
        times 8 db 0x90
global modes_low_16bit_fault
modes_low_16bit_fault:
low_16bit_fault:
        wrmsr
low_idtr: dw 0
        dd 0
modes_low_end:

; 32-bit code under whatever paging: exits, and a word through it.
bits 32
global modes_paged, modes_exits
modes_exits:
        xor eax, eax
        cpuid
        mov ecx, MSR_FEATURE_CONTROL
        rdmsr
        ret

modes_paged:
        call modes_exits
        mov eax, cr4
        xor eax, CR4_VMXE
        mov cr4, eax
        xor eax, CR4_VMXE
        mov cr4, eax
        mov eax, [modes_place]
        mov eax, [eax]
        mov [modes_value], eax
        mov eax, cr0
        mov [modes_value + 4], eax
        mov ecx, MSR_EFER
        rdmsr
        mov [modes_value + 8], eax
        ret

; Paging goes on with the PDPTEs at modes_cr3; bits of CR0 in modes_value change with PG, of CR4 in modes_value + 4.
global modes_paging_on, modes_paging_on_at, modes_cr4_write_at
modes_paging_on:
        mov eax, [modes_cr3]
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        xor eax, [modes_value]
modes_paging_on_at:
        mov cr0, eax
        mov eax, [modes_place]
        mov eax, [eax]
        mov [modes_value + 8], eax
        mov eax, cr4
        xor eax, [modes_value + 4]
modes_cr4_write_at:
        mov cr4, eax
        ret

; To IA-32e mode with a 16-bit TSS in TR; bits of CR0 in modes_value change with PG.
global modes_long_tss16, modes_long_tss16_at
modes_long_tss16:
        mov ax, L_TASK16
        ltr ax
        mov eax, cr0
        or eax, CR0_PG
        xor eax, [modes_value]
modes_long_tss16_at:
        mov cr0, eax
        ret

; To virtual-8086 mode, with the code at MODES_BASE.
global modes_to_v86
modes_to_v86:
        push dword 0                    ; GS
        push dword 0
        push dword 0x1111               ; DS
        push dword 0
        push dword MODES_BASE >> 4      ; SS
        push dword 0x800
        push dword [modes_value]        ; EFLAGS
        push dword MODES_BASE >> 4
        push dword 0
        iretd

bits 16
global modes_v86, modes_v86_end
modes_v86:
        xor eax, eax
        cpuid
        mov cx, ds
        mov dx, 0xcf9
        hlt
modes_v86_end:
        nop

; VMX operation under 32-bit paging.
bits 32
global modes_vmx
modes_vmx:
        mov eax, cr4
        or eax, CR4_VMXE
        mov cr4, eax
        vmxon [modes_region]
        pushfd
        pop dword [modes_value]
        vmptrst [modes_value + 8]
        pushfd
        pop dword [modes_value + 4]
        mov eax, cr4
        and eax, ~CR4_VMXE
        vmxoff
        mov cr4, eax
        ret

; Compatibility mode: a far call from 64-bit code; what exits there too, and what is no instruction there.
global modes_compatibility, modes_compatibility_vmx
modes_compatibility:
        xor eax, eax
        push ebx
        cpuid
        mov [modes_value], ebx
        pop ebx
        mov ecx, MSR_FEATURE_CONTROL
        rdmsr
        mov [modes_value + 4], eax
        mov eax, cr0
        xor eax, 0x20
        mov cr0, eax
        xor eax, 0x20
        mov cr0, eax
        retf
modes_compatibility_vmx:
        vmptrst [modes_value]
        retf

; void modes_call_compatibility(uint32_t code, uint16_t selector)
bits 64
global modes_call_compatibility
modes_call_compatibility:
        push rbx
        push rbp
        mov rbp, rsp
        mov [far_place], edi
        mov [far_place + 4], si
        mov rsp, compatibility_stack_top
        call dword far [far_place]
        mov rsp, rbp
        pop rbp
        pop rbx
        ret

section .rodata
real_idtr: dw 0x3ff
        dd 0

section .bss
alignb 16
        resb 1024
compatibility_stack_top:
far_place: resd 2
