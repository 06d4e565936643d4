; Nestor under a firmware that goes on running: from the firmware's 64-bit mode to start/main_in_place.c and back.
; The code here in .low_text runs where the image was loaded, whose addresses the firmware's tables and those made here
; map one to one.
%include "boot/multiboot2.inc"
bits 64
default rel

PTE_TABLE equ 3
PTE_LARGE equ 0x83
LARGE_PAGE equ 2 << 20
CODE32 equ 0x18
WIDE_SIZE equ 8 * 16                    ; XMM8 to XMM15, which a change of levels loses: SDM 1 3.4.1.1 "General-Purpose
                                        ; Registers in 64-Bit Mode"
TSS_BUSY equ 1 << 1                     ; of the second-lowest type bit, in byte 5 of the descriptor

global in_place_enter, in_place_join, in_place_leave
extern kernel_main_in_place, percpu_boot_stack_top
extern boot_pml4, boot_pdpt, boot_pd, image_pdpt, image_pd

; From 4 levels of paging to 5 or back, for which IA-32e mode must end in between (SDM 3A 2.5 "Control Registers",
; CR4.LA57).
; eax: the new CR4. edx: the new CR3, below 4 GiB, whose tables map the code here one to one, as those in use do. The
; GDT is the one below, DS DATA64; CR4.CET and CR4.PCIDE are 0. Loses ecx, RSP, R8 to R15, XMM8 to XMM15 and the upper
; halves of the others.
%macro CHANGE_LEVELS 0
section .low_data
%%to_narrow: dd 0
        dw CODE32
%%to_wide: dd 0
        dw CODE64
section .low_text
        lea     rcx, [%%narrow]
        mov     [%%to_narrow], ecx
        lea     rcx, [%%wide]
        mov     [%%to_wide], ecx
        lea     rcx, [%%to_wide]
        jmp     far dword [%%to_narrow]
bits 32
%%narrow:
        mov     esp, eax                ; there is no stack here
        mov     eax, cr0
        btr     eax, CR0_PG_BIT
        mov     cr0, eax
        mov     cr4, esp
        mov     cr3, edx
        bts     eax, CR0_PG_BIT
        mov     cr0, eax
        jmp     far [ecx]
bits 64
%%wide:
%endmacro

section .low_data progbits alloc noexec write align=8
section .low_text progbits alloc exec nowrite align=16

; enum in_place_result in_place_join(struct in_place_processor *processor)
in_place_join:
        endbr64                         ; the firmware may have CET on: what is reached by a pointer begins with this
        xor     esi, esi
        jmp     enter
; enum in_place_result in_place_enter(struct in_place *in_place, uint64_t load_base)
in_place_enter:
        endbr64
; rsi: 0 for in_place_join(). Under Nestor's tables rbx is the struct in_place_processor.
enter:  push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        pushfq
        cli
        cld
        sub     rsp, WIDE_SIZE
        mov     rax, cr4
        test    eax, CR4_LA57
        jz      .saved
%assign i 8
%rep 8
        movups  [rsp + (i - 8) * 16], xmm %+ i
%assign i i + 1
%endrep
.saved:
        mov     [rdi + S_RSP], rsp
        lea     rcx, [.back]
        mov     [rdi + S_RIP], rcx
        mov     rbx, rdi
        mov     rbp, rsi
        test    rbp, rbp
        jz      .tables
        call    build_tables
.tables:
        mov     ecx, IA32_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     rax, cr4
        and     eax, CR4_LA57
        or      eax, CR4_BITS
        mov     cr4, rax
        lea     rax, [gdt]
        mov     [gdtr + 2], rax
        lgdt    [gdtr]
        push    CODE64
        lea     rax, [.own]
        push    rax
        o64 retf
.own:   mov     eax, DATA64
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        xor     eax, eax
        lldt    ax
        lea     rdx, [boot_pml4]
        mov     rax, cr4
        test    eax, CR4_LA57
        jz      .levels
        mov     eax, CR4_BITS
        CHANGE_LEVELS
.levels:
        mov     cr3, rdx
        mov     eax, CR0_BITS
        mov     cr0, rax
        mov     rax, join_high
        mov     rcx, enter_high
        test    ebp, ebp
        cmovnz  rax, rcx
        jmp     rax
; L1's first instruction, and where in_place_leave() comes to. RAX: the result.
.back:  endbr64
        mov     rcx, cr4
        test    ecx, CR4_LA57
        jz      .restored
%assign i 8
%rep 8
        movups  xmm %+ i, [rsp + (i - 8) * 16]
%assign i i + 1
%endrep
.restored:
        add     rsp, WIDE_SIZE
        popfq
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

; The tables of boot/entry.asm, once more in 64 bits. rbp: where the image was loaded.
build_tables:
        push    rdi
        lea     rax, [boot_pml4]
        or      rax, PTE_TABLE
        mov     [boot_pml5], rax
        lea     rax, [boot_pdpt]
        or      rax, PTE_TABLE
        mov     [boot_pml4], rax
        mov     [boot_pml4 + 256 * 8], rax
        lea     rax, [image_pdpt]
        or      rax, PTE_TABLE
        mov     [boot_pml4 + 511 * 8], rax
        lea     rax, [image_pd]
        or      rax, PTE_TABLE
        mov     [image_pdpt + 510 * 8], rax
        lea     rdi, [boot_pdpt]
        lea     rax, [boot_pd]
        or      rax, PTE_TABLE
        mov     edx, 4096
        mov     ecx, 4
        call    .fill
        lea     rdi, [boot_pd]
        mov     eax, PTE_LARGE
        mov     edx, LARGE_PAGE
        mov     ecx, 4 * 512
        call    .fill
        lea     rdi, [image_pd]
        lea     rax, [rbp + PTE_LARGE]
        mov     ecx, 512
        call    .fill
        pop     rdi
        ret
.fill:  stosq
        add     rax, rdx
        dec     ecx
        jnz     .fill
        ret

; rdi: struct in_place_state at its physical address; rsi: the result. The tables are those made above.
leave_low:
        mov     rax, [rdi + S_CR0]
        mov     cr0, rax
        mov     ecx, IA32_EFER
        mov     eax, [rdi + S_EFER]
        mov     edx, [rdi + S_EFER + 4]
        wrmsr
        mov     rax, [rdi + S_CR4]
        test    eax, CR4_LA57
        jz      .levels
        lgdt    [gdtr]
        mov     eax, DATA64
        mov     ds, eax
        mov     eax, CR4_BITS | CR4_LA57
        lea     rdx, [boot_pml5]
        CHANGE_LEVELS
.levels:
        mov     rax, [rdi + S_CR4]
        and     rax, ~CR4_CET           ; the shadow stack has nothing for the far return below
        mov     cr4, rax
        mov     rax, [rdi + S_CR3]
        mov     cr3, rax
        lgdt    [rdi + S_GDTR]
        lidt    [rdi + S_IDTR]
        mov     rsp, [rdi + S_RSP]
        movzx   eax, word [rdi + S_CS]
        push    rax
        lea     rax, [.firmware]
        push    rax
        o64 retf
.firmware:
        mov     ss, [rdi + S_SS]
        mov     ds, [rdi + S_DS]
        mov     es, [rdi + S_ES]
        mov     fs, [rdi + S_FS]
        mov     gs, [rdi + S_GS]
        lldt    [rdi + S_LDTR]
        movzx   ebx, word [rdi + S_TR]
        test    ebx, ebx
        jz      .no_task
        mov     rax, [rdi + S_GDTR + 2]
        and     byte [rax + rbx + 5], ~TSS_BUSY & 0xff
        ltr     bx
.no_task:
        mov     ecx, IA32_FS_BASE
        mov     eax, [rdi + S_FS_BASE]
        mov     edx, [rdi + S_FS_BASE + 4]
        wrmsr
        mov     ecx, IA32_GS_BASE
        mov     eax, [rdi + S_GS_BASE]
        mov     edx, [rdi + S_GS_BASE + 4]
        wrmsr
        mov     rax, [rdi + S_CR4]
        mov     cr4, rax
        mov     rax, rsi
        jmp     [rdi + S_RIP]

section .low_rodata progbits alloc noexec nowrite align=8
gdt:    dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
        dq 0x00cf9b000000ffff           ; CODE32
gdt_end:

section .low_data
gdtr:   dw gdt_end - gdt - 1
        dq 0

section .low_bss nobits alloc noexec write align=4096
boot_pml5: resb 4096

section .text
enter_high:
        mov     rsp, percpu_boot_stack_top
        mov     rdi, rbx
        xor     ebp, ebp
        call    kernel_main_in_place    ; does not return
        ud2

; The final tables map the image's copy that runs since hpt_relocate(), with the same code at the same addresses.
join_high:
        mov     rax, [rbx + P_TABLES]
        mov     rsp, [rbx + P_STACK]
        mov     rdi, [rbx + P_CPU]
        mov     rdx, [rbx + P_MAIN]
        mov     rsi, rbx
        mov     cr3, rax
        xor     ebp, ebp
        call    rdx                     ; does not return
        ud2

; void in_place_leave(hpa_t state, enum in_place_result result, hpa_t low_base, hpa_t tables): the way out of Nestor, to
; where the firmware called it. low_base: what is to be added to a label of .low_*.
in_place_leave:
        mov     rax, leave_low
        add     rax, rdx
        mov     cr3, rcx
        jmp     rax

section .note.GNU-stack noalloc noexec nowrite progbits
