; The last words on a machine where C code cannot run: to COM1, COM2 and the VGA text screen, then the end of the run.
; 32-bit, no paging, no interrupt table; ebp as in boot/entry.asm.
%include "boot/multiboot2.inc"
bits 32

COM1 equ 0x3f8
COM2 equ 0x2f8
UART_LCR equ 3
UART_LSR equ 5
LCR_8N1 equ 3
LCR_DLAB equ 0x80
LSR_EMPTY equ 0x20
UART_WAIT equ 1 << 20                   ; polls before a character is given up
VGA_TEXT equ 0xb8000
VGA_BYTES equ 80 * 25 * 2
VGA_COLOUR equ 0x0f
BOCHS_SHUTDOWN equ 0x8900

section .low_text progbits alloc exec nowrite align=16
global refuse_no_loader, refuse_missing_feature
extern boot_info

; Without a multiboot2 loader there is no command line to look into.
refuse_no_loader:
        call set_up_ports
        lea esi, [AT(text_no_loader)]
        call print
        jmp halt

; eax: name of the feature.
refuse_missing_feature:
        push eax
        call set_up_ports
        lea esi, [AT(text_lacks)]
        call print
        mov esi, [esp]
        call print
        lea esi, [AT(text_status)]
        call print
        pop esi
        call print
        lea esi, [AT(text_status_end)]
        call print
        call is_bochs_run
        jne halt
        lea esi, [AT(text_shutdown)]
        mov ecx, text_shutdown_end - text_shutdown
        mov dx, BOCHS_SHUTDOWN
        rep outsb
halt:   hlt
        jmp halt

set_up_ports:
        mov dword [AT(vga_at)], VGA_TEXT
        mov edx, COM1
        call .port
        mov edx, COM2
.port:  add edx, UART_LCR
        mov al, LCR_DLAB
        out dx, al
        sub edx, UART_LCR
        mov al, 1                       ; 115200 baud
        out dx, al
        inc edx
        mov al, 0
        out dx, al
        add edx, UART_LCR - 1
        mov al, LCR_8N1
        out dx, al
        ret

; The text at esi, on all three.
print:
        lodsb
        test al, al
        jz .done
        mov edx, COM1
        call send
        mov edx, COM2
        call send
        call show
        jmp print
.done:  ret

; al to the UART at edx, with a \r before each \n.
send:
        cmp al, 10
        jne .one
        mov al, 13
        call .one
        mov al, 10
.one:   mov ah, al
        mov ecx, UART_WAIT
        add edx, UART_LSR
.wait:  in al, dx
        test al, LSR_EMPTY
        loopz .wait
        sub edx, UART_LSR
        mov al, ah
        out dx, al
        ret

; al to the screen.
show:
        mov edi, [AT(vga_at)]
        cmp edi, VGA_TEXT + VGA_BYTES
        jae .done
        cmp al, 10
        je .newline
        mov ah, VGA_COLOUR
        mov [edi], ax
        add dword [AT(vga_at)], 2
.done:  ret
.newline:
        push eax
        lea eax, [edi - VGA_TEXT]
        xor edx, edx
        mov ecx, 160
        div ecx
        inc eax
        mul ecx
        add eax, VGA_TEXT
        mov [AT(vga_at)], eax
        pop eax
        ret

; ZF is set when the command line holds the option that says so.
is_bochs_run:
        mov ebx, [AT(boot_info)]
        lea edx, [ebx + 8]
        add ebx, [ebx]                  ; the end of the block
.tag:   cmp edx, ebx
        jae .no
        cmp dword [edx], TAG_INFO_COMMAND_LINE
        je .found
        cmp dword [edx], TAG_INFO_END
        je .no
        mov eax, [edx + 4]
        add eax, 7
        and eax, ~7
        jz .no
        add edx, eax
        jmp .tag
.found: mov ebx, [edx + 4]
        add ebx, edx
        add edx, 8
        sub ebx, option_bochs_end - option_bochs - 1
.at:    cmp edx, ebx
        jae .no
        lea esi, [AT(option_bochs)]
        mov edi, edx
        mov ecx, option_bochs_end - option_bochs
        repe cmpsb
        je .yes
        inc edx
        jmp .at
.no:    or al, 1
.yes:   ret

section .low_rodata progbits alloc noexec nowrite align=8
text_no_loader: db "nestor: not started by a multiboot2 loader", 10
                db "nestor: exit status 1 (no multiboot2 loader)", 10, 0
text_lacks: db "nestor: this CPU lacks ", 0
text_status: db 10, "nestor: exit status 1 (this CPU lacks ", 0
text_status_end: db ")", 10, 0
text_shutdown: db "Shutdown"
text_shutdown_end:
option_bochs: db "on-exit=bochs"
option_bochs_end:

section .low_bss nobits alloc noexec write align=4
vga_at: resd 1
