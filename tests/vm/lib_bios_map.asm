; A multiboot1 image that goes to real mode, asks the BIOS about memory, and prints on COM1 what it said beside what the
; boot loader said, numbers in hexadecimal:
;   bios|loader BASE SIZE TYPE    a region of INT 15h AX=E820h; of the multiboot map
;   sizes AX BX CX DX AX AX       INT 15h AX=E801h, AH=88h, INT 12h
;   refused CARRY AX              INT 15h AX=E820h with a wrong EDX
;   chained CARRY AX              INT 15h AH=C0h, which is not about memory
;   root ADDRESS SUM              ACPI's root pointer in the extended BIOS data area, or 0; the sum of its bytes
; It ends with status 0 by port 0xf4.
bits 32
org 0x100000

MULTIBOOT_MAGIC equ 0x1BADB002
MULTIBOOT_FLAGS equ 1 << 16
INFO_MMAP_LENGTH equ 44
INFO_MMAP       equ 48
COM1            equ 0x3F8
LINE_STATUS     equ 5
THR_EMPTY       equ 1 << 5
ALL_SENT        equ 1 << 6
REAL            equ 0x8000              ; where the 16-bit part runs
RESULT          equ 0x9000              ; what it found
REGIONS         equ RESULT + 256        ; E820 entries of 24 bytes
SMAP            equ 0x534D4150
CR0_PE          equ 1

header:
    dd MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
    dd header, header, end, end, start

start:
    mov esp, stack_top
    mov ebp, ebx
    mov dx, COM1 + 3
    mov al, 3
    out dx, al
    mov esi, [ebp + INFO_MMAP]
    mov ecx, [ebp + INFO_MMAP_LENGTH]
    add ecx, esi
.loader:
    cmp esi, ecx
    jae .loader_done
    mov edi, word_loader
    lea ebx, [esi + 4]
    call print_region
    add esi, [esi]
    add esi, 4
    jmp .loader
.loader_done:
    mov esi, real
    mov edi, REAL
    mov ecx, real_end - real
    rep movsb
    lgdt [table_pointer]
    lidt [real_table]
    jmp 0x08:REAL

back:
    mov ax, 0x20
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, stack_top
    mov esi, REGIONS
    mov ecx, [RESULT]
.bios:
    jecxz .bios_done
    mov edi, word_bios
    mov ebx, esi
    call print_region
    add esi, 24
    dec ecx
    jmp .bios
.bios_done:
    mov edi, word_sizes
    mov ecx, 6
    call print_results
    mov edi, word_refused
    mov ecx, 2
    call print_results
    mov edi, word_chained
    mov ecx, 2
    call print_results
    call print_root
    mov dx, COM1 + LINE_STATUS
.sent:
    in al, dx
    test al, ALL_SENT
    jz .sent
    xor al, al
    out 0xF4, al
halt:
    jmp halt

; In: EDI a word; EBX a region: base, size of 8 bytes, type of 4.
print_region:
    call print_word
    mov eax, [ebx + 4]
    mov edx, [ebx]
    call print_long
    mov eax, [ebx + 12]
    mov edx, [ebx + 8]
    call print_long
    mov eax, [ebx + 16]
    call print_number
    mov al, 10
    jmp print_char

; In: EDI a word; ECX how many of the results that follow are its.
print_results:
    call print_word
.next:
    mov ebx, [result_at]
    movzx eax, word [ebx]
    add dword [result_at], 2
    call print_number
    loop .next
    mov al, 10
    jmp print_char

print_word:
    mov al, [edi]
    inc edi
    test al, al
    jz .done
    call print_char
    jmp print_word
.done:
    ret

; The first KiB of what word 40EH leads to.
print_root:
    movzx esi, word [0x40E]
    shl esi, 4
    mov ecx, 1024 / 16
.search:
    cmp dword [esi], "RSD "
    jne .further
    cmp dword [esi + 4], "PTR "
    je .found
.further:
    add esi, 16
    loop .search
    xor esi, esi
.found:
    xor edx, edx
    mov ecx, 20
.sum:
    add dl, [esi + ecx - 1]
    loop .sum
    mov edi, word_root
    call print_word
    mov eax, esi
    call print_number
    mov eax, edx
    call print_number
    mov al, 10
    jmp print_char

; In: EAX:EDX, printed after a space.
print_long:
    push edx
    call print_number
    pop eax
    jmp print_digits

print_number:
    push eax
    mov al, ' '
    call print_char
    pop eax
print_digits:
    push ecx
    mov ecx, 8
.next:
    rol eax, 4
    push eax
    and al, 15
    cmp al, 10
    sbb al, 0x69
    das
    call print_char
    pop eax
    loop .next
    pop ecx
    ret

print_char:
    push edx
    mov ah, al
    mov dx, COM1 + LINE_STATUS
.wait:
    in al, dx
    test al, THR_EMPTY
    jz .wait
    mov al, ah
    mov dx, COM1
    out dx, al
    pop edx
    ret

bits 16
real:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and al, ~CR0_PE & 0xFF
    mov cr0, eax
    jmp 0:REAL + (.flat - real)
.flat:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    sti
    mov dword [RESULT], 0
    mov edi, REGIONS
    xor ebx, ebx
.region:
    mov eax, 0xE820
    mov edx, SMAP
    mov ecx, 20
    int 0x15
    jc .regions_done
    cmp eax, SMAP
    jne .regions_done
    inc dword [RESULT]
    add di, 24
    test ebx, ebx
    jnz .region
.regions_done:
    mov ax, 0xE801
    xor bx, bx
    xor cx, cx
    xor dx, dx
    int 0x15
    mov [RESULT + 4], ax
    mov [RESULT + 6], bx
    mov [RESULT + 8], cx
    mov [RESULT + 10], dx
    mov ah, 0x88
    int 0x15
    mov [RESULT + 12], ax
    int 0x12
    mov [RESULT + 14], ax
    mov eax, 0xE820
    xor edx, edx
    xor ebx, ebx
    mov ecx, 20
    mov di, REGIONS + 24 * 100
    clc
    int 0x15
    call .carry
    mov [RESULT + 16], dx
    mov [RESULT + 18], ax
    mov ah, 0xC0
    stc
    int 0x15
    call .carry
    mov [RESULT + 20], dx
    mov [RESULT + 22], ax
    xor ax, ax
    mov ds, ax
    cli
    mov eax, cr0
    or al, CR0_PE
    mov cr0, eax
    jmp dword 0x18:back
.carry:
    mov dx, 0
    adc dx, 0
    ret
real_end:

align 8
table:
    dq 0
    dq 0x00009B000000FFFF               ; 0x08: 16-bit code
    dq 0x000093000000FFFF               ; 0x10: 16-bit data
    dq 0x00CF9B000000FFFF               ; 0x18: 32-bit code
    dq 0x00CF93000000FFFF               ; 0x20: 32-bit data
table_pointer:
    dw $ - table - 1
    dd table
real_table:
    dw 0x3FF
    dd 0
result_at: dd RESULT + 4
word_bios: db "bios", 0
word_loader: db "loader", 0
word_sizes: db "sizes", 0
word_refused: db "refused", 0
word_chained: db "chained", 0
word_root: db "root", 0
align 16
    times 512 db 0
stack_top:
end:
