; A boot sector that says on COM1 what it finds: "boot DL TICKS RAM CPUID". DL: the drive; TICKS: of the BIOS's clock
; while it waits; RAM: KiB from 1 MiB on, of INT 15h AX=E801h; CPUID: EBX of the hypervisor's leaf. It ends with
; status 0 by port 0xf4.
bits 16
org 0x7c00

COM1            equ 0x3F8
LINE_STATUS     equ 5
ALL_SENT        equ 1 << 6
BIOS_TICKS      equ 0x46C
HYPERVISOR_LEAF equ 0x40000000

        jmp 0:start
start:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        push dx
        mov dx, COM1 + 3
        mov al, 3                       ; 8 data bits
        out dx, al
        mov si, word_boot
.char:  lodsb
        test al, al
        jz .said
        call print_char
        jmp .char
.said:  pop ax
        mov ah, 0
        call print_number
        mov bx, [BIOS_TICKS]
.wait:  hlt
        cmp bx, [BIOS_TICKS]
        je .wait
        mov ax, [BIOS_TICKS]
        sub ax, bx
        call print_number
        mov ax, 0xe801
        int 0x15
        call print_number
        mov eax, HYPERVISOR_LEAF
        cpuid
        mov eax, ebx
        call print_number
        mov al, 10
        call print_char
        xor al, al
        out 0xf4, al
        hlt

; eax, behind a space
print_number:
        push eax
        mov al, ' '
        call print_char
        pop eax
        mov cx, 8
.digit: rol eax, 4
        push eax
        and al, 15
        cmp al, 10
        sbb al, 0x69
        das
        call print_char
        pop eax
        loop .digit
        ret

print_char:
        mov dx, COM1
        out dx, al
        mov dx, COM1 + LINE_STATUS
.wait:  in al, dx
        test al, ALL_SENT
        jz .wait
        ret

word_boot: db "boot", 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
        times 1024 * 1024 - ($ - $$) db 0
