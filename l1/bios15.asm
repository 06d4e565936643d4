; The answer to the BIOS's INT 15h where it would tell L1 about memory; all else goes on to the BIOS, or, where there is
; none, is refused. L1 runs it in real mode, from the start of a page of conventional memory. l1/l1_bios.c puts it
; there, with its table behind it.

bits 16
global bios15_code

; as l1/l1_bios.h has them: where there is no BIOS, INT 12h leads to the first, all others to the next two
SIZE equ 0xa0
REFUSE equ 0xb0
RETURN equ 0xb8
; struct l1_bios_table, from the start of the page on
TABLE equ 256
BIOS_VECTOR equ TABLE
COUNT equ TABLE + 4
KIB_FROM_1M equ TABLE + 8               ; at most 15 MiB
BLOCKS_FROM_16M equ TABLE + 10          ; of 64 KiB
KIB_FROM_1M_ALL equ TABLE + 12          ; at most 65535
REGIONS equ TABLE + 16
REGION_SIZE equ 20
BASE_MEMORY_KIB equ 0x413               ; in the BIOS data area

SMAP equ 0x534d4150
REFUSED equ 0x86                        ; "function not supported"
CARRY equ 1

section .rodata
align 16
bios15_code:
        cmp     ax, 0xe820
        je      map_entry
        cmp     ax, 0xe801
        je      two_sizes
        cmp     ax, 0xe881              ; the same in 32 bits, which no one misses
        je      refuse
        cmp     ah, 0x88
        je      one_size
        jmp     far [cs:BIOS_VECTOR]

map_entry:
        cmp     edx, SMAP
        jne     refuse
        cmp     ecx, REGION_SIZE
        jb      refuse
        cmp     ebx, [cs:COUNT]
        jae     refuse
        push    ds
        push    si
        push    di
        push    cs
        pop     ds
        imul    si, bx, REGION_SIZE
        add     si, REGIONS
        mov     cx, REGION_SIZE / 2
        cld
        rep movsw
        pop     di
        pop     si
        pop     ds
        mov     eax, edx
        mov     ecx, REGION_SIZE
        inc     ebx
        cmp     ebx, [cs:COUNT]
        jb      succeed
        xor     ebx, ebx                ; that was the last one
        jmp     succeed

two_sizes:
        mov     ax, [cs:KIB_FROM_1M]
        mov     bx, [cs:BLOCKS_FROM_16M]
        mov     cx, ax
        mov     dx, bx
        jmp     succeed

one_size:
        mov     ax, [cs:KIB_FROM_1M_ALL]

; The carry flag of the caller is on the stack behind bp, ip and cs.
succeed:
        push    bp
        mov     bp, sp
        and     byte [bp + 6], ~CARRY & 0xff
        pop     bp
        iret

refuse:
        mov     ah, REFUSED
        push    bp
        mov     bp, sp
        or      byte [bp + 6], CARRY
        pop     bp
        iret

        times SIZE - ($ - bios15_code) db 0
        push    ds
        xor     ax, ax
        mov     ds, ax
        mov     ax, [BASE_MEMORY_KIB]
        pop     ds
        iret

        times REFUSE - ($ - bios15_code) db 0
        jmp     refuse
        times RETURN - ($ - bios15_code) db 0
        iret

        times TABLE - ($ - bios15_code) db 0    ; room for ACPI's root among it

section .note.GNU-stack noalloc noexec nowrite progbits
