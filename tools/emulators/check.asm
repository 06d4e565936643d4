; A boot sector that multiplies and divides what the sectors behind it say, in 64-bit mode, and compares.
; tools/nestorlib/emulator_check.py writes those and reads port E9H: "arithmetic: N right", or the number of the first
; case that came out wrong.
bits 16
org 0x7c00

CASES		equ 0x8000	; 8 bytes: how many; then the cases
SECTORS		equ 17		; the rest of the first track
PAGE_TABLES	equ 0x1000	; three pages
DEBUG_PORT	equ 0xe9
POWER_PORT	equ 0x8900	; Bochs ends when "Shutdown" is written there

struc case
.kind:		resq 1		; 0: IDIV, 1: DIV, 2: IMUL, 3: MUL
.rax:		resq 1
.rdx:		resq 1
.operand:	resq 1
.wanted_rax:	resq 1
.wanted_rdx:	resq 1
endstruc

start:
	cli
	xor ax, ax
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov sp, 0x7c00
	mov ax, 0x0200 + SECTORS
	mov bx, CASES
	mov cx, 0x0002		; cylinder 0, from sector 2 on
	xor dh, dh		; head 0; DL is the drive we came from
	int 0x13
	jc near $		; the checker's time-out tells

	mov di, PAGE_TABLES
	mov cx, 3 * 4096 / 2
	xor ax, ax
	rep stosw
	mov dword [PAGE_TABLES], (PAGE_TABLES + 0x1000) | 3
	mov dword [PAGE_TABLES + 0x1000], (PAGE_TABLES + 0x2000) | 3
	mov dword [PAGE_TABLES + 0x2000], 0x83	; 2 MiB at 0
	mov eax, 0x20		; CR4.PAE
	mov cr4, eax
	mov eax, PAGE_TABLES
	mov cr3, eax
	mov ecx, 0xc0000080	; IA32_EFER.LME
	rdmsr
	or ah, 1
	wrmsr
	lgdt [gdt_pointer]
	mov eax, cr0
	or eax, 0x80000001	; CR0.PG and CR0.PE
	mov cr0, eax
	jmp 8:long_mode

align 8
gdt:
	dq 0
	dq 0x00209a0000000000	; 64-bit code
gdt_pointer:
	dw $ - gdt - 1
	dd gdt

bits 64
default abs
long_mode:
	mov rbp, CASES + 8
	xor ebx, ebx		; number of the case
next_case:
	cmp rbx, [CASES]
	je all_right
	mov rax, [rbp + case.rax]
	mov rdx, [rbp + case.rdx]
	mov rcx, [rbp + case.operand]
	mov esi, [rbp + case.kind]
	cmp esi, 1
	je divide
	cmp esi, 2
	je multiply_signed
	cmp esi, 3
	je multiply
	idiv rcx
	jmp compare
divide:
	div rcx
	jmp compare
multiply_signed:
	imul rcx
	jmp compare
multiply:
	mul rcx
compare:
	cmp rax, [rbp + case.wanted_rax]
	jne wrong
	cmp rdx, [rbp + case.wanted_rdx]
	jne wrong
	add rbp, case_size
	inc ebx
	jmp next_case

wrong:
	mov esi, text_wrong
	jmp tell
all_right:
	mov esi, text_right
tell:
	mov edi, esi
	mov esi, text_begin
	call print
	mov eax, ebx
	mov ecx, 100
	call print_digit
	mov ecx, 10
	call print_digit
	mov ecx, 1
	call print_digit
	mov esi, edi
	call print
	mov dx, POWER_PORT
	mov esi, text_shutdown
	call print_to
	jmp $

; One digit of EAX, which loses it. Divides 32 bits, as what is in doubt is 64.
print_digit:
	xor edx, edx
	div ecx
	add al, '0'
	out DEBUG_PORT, al
	mov eax, edx
	ret
print:
	mov dx, DEBUG_PORT
print_to:
	lodsb
	test al, al
	jz .end
	out dx, al
	jmp print_to
.end:
	ret

text_begin	db "arithmetic: ", 0
text_right	db " right", 10, 0
text_wrong	db " wrong", 10, 0
text_shutdown	db "Shutdown", 0

times 510 - ($ - $$) db 0
	dw 0xaa55
