; A multiboot1 image for the runner's test. Prints its command line and its modules' strings
; on COM1, each between brackets, and ends as the last character of the command line says:
;   0..9  writes that status to port 0xf4        p  ACPI power-off
;   t     triple fault                           h  hangs for ever
;   d     status 8 if a fault of a handler's first instruction has that instruction's address, else 9
bits 32
org 0x100000

MULTIBOOT_MAGIC   equ 0x1BADB002
MULTIBOOT_FLAGS   equ 1 << 16           ; the load addresses are in this header
INFO_COMMAND_LINE equ 16
INFO_MODULE_COUNT equ 20
INFO_MODULES      equ 24
MODULE_STRING     equ 8
MODULE_SIZE       equ 16

COM1              equ 0x3F8
COM1_LINE_CONTROL equ COM1 + 3
COM1_LINE_STATUS  equ COM1 + 5
LINE_8N1          equ 3
STATUS_THR_EMPTY  equ 1 << 5
STATUS_ALL_SENT   equ 1 << 6
DEBUG_EXIT_PORT   equ 0xF4
BOCHS_PORT        equ 0x8900
PM1_CONTROL       equ 0xB004            ; where Bochs's BIOS puts it
PM1_SLEEP_S5      equ 0x2000
INTERRUPT_GATE    equ 0x8E00

header:
    dd MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
    dd header, header, end, end, start

start:
    mov esp, stack_top
    mov ebp, ebx
    mov al, LINE_8N1
    mov dx, COM1_LINE_CONTROL
    out dx, al
    mov esi, [ebp + INFO_COMMAND_LINE]
    call print_bracketed
    mov bl, [esi - 2]                   ; the last character, before the zero
    mov ecx, [ebp + INFO_MODULE_COUNT]
    mov edi, [ebp + INFO_MODULES]
.next_module:
    jecxz finish
    mov esi, [edi + MODULE_STRING]
    call print_bracketed
    add edi, MODULE_SIZE
    dec ecx
    jmp .next_module

finish:
    mov dx, COM1_LINE_STATUS
.wait_sent:
    in al, dx
    test al, STATUS_ALL_SENT
    jz .wait_sent
    cmp bl, 'h'
    je halt
    cmp bl, 't'
    je triple_fault
    cmp bl, 'p'
    je power_off
    cmp bl, 'd'
    je fault_twice
    mov al, bl
    sub al, '0'
end_with_al:
    out DEBUG_EXIT_PORT, al
    mov esi, shutdown_word
    mov ecx, shutdown_length
    mov dx, BOCHS_PORT
    rep outsb
halt:
    jmp halt

triple_fault:
    lidt [empty_table]
    int3

power_off:
    mov dx, PM1_CONTROL
    mov ax, PM1_SLEEP_S5
    out dx, ax
    jmp halt

fault_twice:
    mov eax, divide_error
    mov edi, gates                      ; vector 0
    call set_gate
    mov eax, invalid_opcode
    mov edi, gates + 6 * 8
    call set_gate
    lidt [gates_pointer]
    xor ecx, ecx
    ud2
invalid_opcode:
    div ecx                             ; by 0
divide_error:
    cmp dword [esp], invalid_opcode
    setne al
    add al, 8
    jmp end_with_al

; In: EAX, a handler; EDI, its gate.
set_gate:
    mov [edi], ax
    mov [edi + 2], cs
    mov word [edi + 4], INTERRUPT_GATE
    shr eax, 16
    mov [edi + 6], ax
    ret

; In: ESI, a string. Out: ESI behind its zero.
print_bracketed:
    mov al, '['
    call print_char
.next:
    lodsb
    test al, al
    jz .end
    call print_char
    jmp .next
.end:
    mov al, ']'
    call print_char
    mov al, 10

print_char:
    mov ah, al
    mov dx, COM1_LINE_STATUS
.wait:
    in al, dx
    test al, STATUS_THR_EMPTY
    jz .wait
    mov al, ah
    mov dx, COM1
    out dx, al
    ret

shutdown_word: db "Shutdown"
shutdown_length equ $ - shutdown_word
empty_table: times 6 db 0
gates_pointer:
    dw 7 * 8 - 1
    dd gates
align 8
gates: times 7 dq 0
align 16
    times 512 db 0
stack_top:
end:
