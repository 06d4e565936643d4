; L2 code that is not 64-bit: real mode, protected mode, and the way from one to the other.
; The real-mode pieces are copied to REAL_BASE of L2's memory and use only addresses within their segment.

DONE equ 0x600d
SEL_CODE64 equ 0x08
SEL_DATA equ 0x10
SEL_CODE32 equ 0x38
SEL_OTHER_TSS equ 0x40
MSR_EFER equ 0xc0000080
MSR_MTRR_DEF_TYPE equ 0x2ff

section .text

global real_start, real_end, real_to_long, real_interrupt, real_bitmap
bits 16
real_start:
; CPUID, I/O and an interrupt through the table at 0.
        mov eax, 0x1234
        cpuid
        mov dx, 0x80
        out dx, al
        xor bx, bx
        int 0x20
        mov eax, DONE
        vmcall
real_interrupt:
        mov bx, 0x5678
        iret

; Reads the MSR in ECX, toggles the bits in BL of the byte at DI, exits; and once more; and reads.
real_bitmap:
        rdmsr
        xor [di], bl
        cpuid
        rdmsr
        xor [di], bl
        cpuid
        rdmsr
        mov eax, DONE
        vmcall

; From real mode straight to long mode: EBX holds CR3, the descriptor table's pseudo-descriptor is at ESI.
align 16
real_to_long:
        mov eax, cr4
        or eax, 0x20                    ; PAE
        mov cr4, eax
        mov cr3, ebx
        mov ecx, MSR_EFER
        rdmsr
        or eax, 0x100                   ; LME
        wrmsr
        o32 lgdt [esi]
        mov eax, cr0
        or eax, 0x80000001              ; PG, PE
        mov cr0, eax
        jmp dword SEL_CODE64:long_entry
real_end:

bits 64
long_entry:
        mov ax, SEL_DATA
        mov ss, ax
        mov rbx, 0x123456789abcdef0
        mov eax, DONE
        vmcall

; For ever: four CPUIDs in 64-bit mode, with EFER in ESI at them, and four without paging, with EFER in EBP.
global long_and_back
%macro FOUR_EXITS 0
        mov edi, 4
%%next: xor eax, eax
        xor ecx, ecx
        cpuid
        dec edi
        jnz %%next
%endmacro
long_and_back:
        mov ecx, MSR_EFER
        rdmsr
        mov esi, eax
        FOUR_EXITS
        push SEL_CODE32
        lea rax, [rel .compatibility]
        push rax
        o64 retf
bits 32
.compatibility:
        mov eax, cr0
        btr eax, 31                     ; PG, and so EFER.LMA
        mov cr0, eax
        FOUR_EXITS
        mov ecx, MSR_EFER
        rdmsr
        mov ebp, eax
        mov eax, cr0
        bts eax, 31
        mov cr0, eax
        jmp dword SEL_CODE64:long_and_back
bits 64

global protected_code, protected_task_switch, protected_load_cr3, protected_read
bits 32
; Reads an MSR that Nestor keeps for itself, then the one in EBX, if any, to EDI:ESI.
protected_read:
        mov ecx, MSR_MTRR_DEF_TYPE
        rdmsr
        test ebx, ebx
        jz .done
        mov ecx, ebx
        rdmsr
        mov esi, eax
        mov edi, edx
.done:  mov eax, DONE
        vmcall

; EBX is where to read, ECX what to write there.
protected_code:
        mov eax, [ebx]
        mov [ebx], ecx
        mov edx, eax
        mov eax, DONE
        vmcall

protected_task_switch:
        jmp SEL_OTHER_TSS:0

; EBX holds another CR3; then it goes on at protected_code with EBP as the place.
protected_load_cr3:
        mov cr3, ebx
        mov ebx, ebp
        jmp protected_code
