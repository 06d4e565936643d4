; The first instructions of an L1 that comes from a disk: what the BIOS's INT 19h would do. l1/l1_disk.c has them copied
; to L1_DISK_PAGE, where L1 starts in real mode at offset 0. They run in L1, as all that the BIOS does for it.
;   EBX  the option boot=: a hard disk's number, or BOOT_CD
;   ECX  I/O port to which 1 is written when there is nothing to boot; 0: none

bits 16
global l1_disk_code

CODE_SIZE equ 1024                     ; L1_DISK_CODE_SIZE

BOOT_CD equ 2                           ; of enum boot_option, kernel/cmdline.h
LOADED equ 0x7c00                       ; where all BIOSes put a boot sector
SIGNATURE_AT equ LOADED + 510
SIGNATURE equ 0xaa55
BUFFER equ 0x2000                       ; 2 KiB, for the CD's descriptor and catalogue
HARD_DISK equ 0x80                      ; the number of the first one
CD_FIRST equ 0xe0                       ; the same of a CD
CD_LAST equ 0xef
TRIES equ 3
; INT 13h
RESET equ 0x00
READ equ 0x0201                         ; one sector
READ_EXTENDED equ 0x42
; El Torito 1.0: the record that leads to the catalogue, and what an entry says
RECORD_SECTOR equ 17
RECORD_NAME equ 7
RECORD_CATALOGUE equ 0x47
DEFAULT_ENTRY equ BUFFER + 32
ENTRY_MEDIA equ DEFAULT_ENTRY + 1
ENTRY_SEGMENT equ DEFAULT_ENTRY + 2
ENTRY_COUNT equ DEFAULT_ENTRY + 6       ; of 512 bytes
ENTRY_SECTOR equ DEFAULT_ENTRY + 8
BOOTABLE equ 0x88
NO_EMULATION equ 0

%define AT(label) (label - l1_disk_code)

section .rodata align=16
l1_disk_code:
        cli
        xor     ax, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, LOADED
        mov     ax, cs
        mov     ds, ax
        mov     [AT(end_port)], cx
        sti
        cld
        push    bx
        mov     ax, 3                   ; 80 columns of text
        int     0x10
        pop     bx
        cmp     bl, BOOT_CD
        je      from_cd

        lea     dx, [bx + HARD_DISK]
        mov     bp, TRIES
.read:  mov     ax, READ
        mov     bx, LOADED
        mov     cx, 1                   ; the first sector of the first cylinder
        mov     dh, 0
        push    dx
        int     0x13
        pop     dx
        jnc     .loaded
        mov     ah, RESET
        int     0x13
        dec     bp
        jnz     .read
        mov     si, AT(text_unreadable)
        jmp     refuse
.loaded:
        mov     si, AT(text_no_sector)
        cmp     word [es:SIGNATURE_AT], SIGNATURE
        jne     refuse
        jmp     0:LOADED

from_cd:
        mov     dl, CD_FIRST
.drive: mov     word [AT(packet.segment)], 0
        mov     word [AT(packet.offset)], BUFFER
        mov     word [AT(packet.count)], 1
        mov     dword [AT(packet.sector)], RECORD_SECTOR
        call    read_extended
        jc      .next
        mov     si, AT(text_el_torito)
        mov     di, BUFFER + RECORD_NAME
        mov     cx, EL_TORITO_LENGTH
        repe    cmpsb
        je      .found
.next:  inc     dl
        cmp     dl, CD_LAST
        jbe     .drive
.none:  mov     si, AT(text_no_cd)
        jmp     refuse
.found: mov     eax, [es:BUFFER + RECORD_CATALOGUE]
        mov     [AT(packet.sector)], eax
        call    read_extended
        jc      .none
        cmp     byte [es:DEFAULT_ENTRY], BOOTABLE
        jne     .none
        cmp     byte [es:ENTRY_MEDIA], NO_EMULATION
        jne     .none
        mov     ax, [es:ENTRY_SEGMENT]
        test    ax, ax
        jnz     .place
        mov     ax, LOADED / 16
.place: mov     [AT(packet.segment)], ax
        mov     [AT(entry_segment)], ax
        mov     word [AT(packet.offset)], 0
        mov     ax, [es:ENTRY_COUNT]
        add     ax, 3                   ; 512 to 2,048 bytes
        shr     ax, 2
        mov     [AT(packet.count)], ax
        mov     eax, [es:ENTRY_SECTOR]
        mov     [AT(packet.sector)], eax
        call    read_extended
        jc      .none
        jmp     far [AT(entry_offset)]

; Into the packet's buffer from drive dl. CF as the BIOS says.
read_extended:
        push    dx
        mov     si, AT(packet)
        mov     ah, READ_EXTENDED
        int     0x13
        pop     dx
        ret

; si: why. On the screen, where a BIOS says the like.
refuse: lodsb
        test    al, al
        jz      .said
        mov     ah, 0x0e
        mov     bx, 7
        push    si
        int     0x10
        pop     si
        jmp     refuse
.said:  mov     dx, [AT(end_port)]
        test    dx, dx
        jz      .halt
        mov     al, 1
        out     dx, al
.halt:  hlt
        jmp     .halt

align 4
packet: db      16, 0
.count: dw      0
.offset: dw     0
.segment: dw    0
.sector: dq     0
entry_offset: dw 0
entry_segment: dw 0
end_port: dw    0
text_el_torito: db "EL TORITO SPECIFICATION"
EL_TORITO_LENGTH equ $ - text_el_torito
text_unreadable: db "Nestor: the BIOS cannot read the disk that shall be L1 (the option boot=hd0|hd1|cd)", 13, 10, 0
text_no_sector: db "Nestor: the disk that shall be L1 has no boot sector (the option boot=hd0|hd1|cd)", 13, 10, 0
text_no_cd: db  "Nestor: no CD that boots without emulation is in a drive that the BIOS names (boot=cd)", 13, 10, 0
        times CODE_SIZE - ($ - l1_disk_code) db 0

section .note.GNU-stack noalloc noexec nowrite progbits
