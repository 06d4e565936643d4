; A right long_idiv for a build of Bochs whose own never stores the dividend's low half. It takes that function's place
; in a copy of the program (tools/nestorlib/emulator_mend.py), so it is position-independent and calls nothing.
;   void long_idiv(Bit128s *quotient, Bit64s *remainder, const Bit128s *dividend, Bit64s divisor),
;   a Bit128s being {low, high}
; The caller has excluded a divisor of 0, and judges itself whether the quotient fits.
bits 64

	endbr64
	mov r8, [rdx]		; the dividend's low half
	mov r9, [rdx + 8]	; and its high half
	mov r10, r9
	sar r10, 63		; -1 for a negative dividend
	mov r11, rcx
	sar r11, 63		; -1 for a negative divisor

	xor r8, r10		; both without their sign
	xor r9, r10
	sub r8, r10
	sbb r9, r10
	xor rcx, r11
	sub rcx, r11

	xor edx, edx		; two digits of 64 bits
	mov rax, r9
	div rcx
	mov r9, rax
	mov rax, r8
	div rcx

	xor rdx, r10		; the remainder has the dividend's sign
	sub rdx, r10
	mov [rsi], rdx
	xor r10, r11		; the quotient is negative where the signs differ
	xor rax, r10
	xor r9, r10
	sub rax, r10
	sbb r9, r10
	mov [rdi], rax
	mov [rdi + 8], r9
	ret
