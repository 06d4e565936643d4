; efi_status call_with_shadow_stack(entry_fn entry, efi_handle handle, struct efi_system_table *system, uint64_t *moved)
; IA32_S_CET and IA32_PL0_SSP are set: CR4.CET turns the shadow stack on for the call. For tests/vm/lib_shadow.c.
bits 64
default rel
CR4_CET equ 23

global call_with_shadow_stack

section .text
call_with_shadow_stack:
        push    rbx
        push    rbp
        mov     rbx, rcx
        sub     rsp, 40                 ; of it 32 for a callee of the firmware's convention
        mov     rax, cr4
        bts     rax, CR4_CET
        mov     cr4, rax
        setssbsy
        rdsspq  rbp
        mov     rax, rdi
        mov     rcx, rsi
        call    rax
        rdsspq  rcx
        sub     rcx, rbp
        mov     [rbx], rcx
        mov     rcx, cr4
        btr     rcx, CR4_CET
        mov     cr4, rcx
        add     rsp, 40
        pop     rbp
        pop     rbx
        ret

section .note.GNU-stack noalloc noexec nowrite progbits
