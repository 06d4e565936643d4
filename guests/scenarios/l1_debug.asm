; Handlers of l1_debug.c that keep what each exception found, and the code that is stepped through.

%include "guests/lib/selectors.inc"

LOG_MAX equ 64
LOG_SIZE equ 24
RF equ 1 << 16
TF equ 1 << 8

section .text
bits 64
default abs

extern debug_log, debug_log_count, debug_skip

; #DB: goes on, over an instruction breakpoint too.
global debug_trap
debug_trap:
        push rax
        push rcx
        mov rax, dr6
        mov ecx, [debug_log_count]
        cmp ecx, LOG_MAX
        jae .full
        imul rcx, rcx, LOG_SIZE
        mov [debug_log + rcx + 16], rax
        mov rax, [rsp + 16]             ; RIP
        mov [debug_log + rcx], rax
        mov rax, [rsp + 32]             ; RFLAGS
        mov [debug_log + rcx + 8], rax
        inc dword [debug_log_count]
        mov eax, 0xffff0ff0
        mov dr6, rax
        or dword [rsp + 32], RF
        pop rcx
        pop rax
        iretq
.full:                                  ; do not step for ever
        xor eax, eax
        mov dr7, rax
        and dword [rsp + 32], ~TF
        pop rcx
        pop rax
        iretq

; A fault with an error code: kept likewise, with all-ones for DR6, and stepped over.
global debug_fault
debug_fault:
        add rsp, 8
        push rax
        push rcx
        mov ecx, [debug_log_count]
        imul rcx, rcx, LOG_SIZE
        mov rax, -1
        mov [debug_log + rcx + 16], rax
        mov rax, [rsp + 16]
        mov [debug_log + rcx], rax
        mov rax, [rsp + 32]
        mov [debug_log + rcx + 8], rax
        inc dword [debug_log_count]
        mov eax, [debug_skip]
        add [rsp + 16], rax
        pop rcx
        pop rax
        iretq

%macro STEP_BEGIN 1
global step_%1, step_%1_points
step_%1:
        push rbx
        pushfq
        or dword [rsp], TF
        popfq
%endmacro
; The last three traps are those of the way out.
%macro STEP_END 0
%%a:    pushfq
%%b:    and dword [rsp], ~TF
%%c:    popfq
%%d:    pop rbx
        ret
section .rodata
        dq %%b, %%c, %%d, 0
section .text
%endmacro

; Instructions that exit to a hypervisor, each a point: the trap comes behind it, once.
section .rodata
align 8
step_exits_points: dq step_exits.p1, step_exits.p2, step_exits.p3, step_exits.p4, step_exits.p5, step_exits.p6
        dq step_exits.p7, step_exits.p8, step_exits.p9, step_exits.p10, step_exits.p11, step_exits.p12, step_exits.p13
section .text
STEP_BEGIN exits
        nop
.p1:    xor eax, eax
.p2:    cpuid
.p3:    mov ecx, 0x1b                   ; IA32_APIC_BASE
.p4:    rdmsr
.p5:    wrmsr
.p6:    mov ecx, 0x3a                   ; IA32_FEATURE_CONTROL
.p7:    rdmsr
.p8:    mov rax, cr0
.p9:    xor eax, 0x20                   ; NE
.p10:   mov cr0, rax
.p11:   xor eax, 0x20
.p12:   mov cr0, rax
.p13:
STEP_END

; Ports that a hypervisor keeps, by all kinds of I/O instructions.
section .rodata
align 8
step_io_points: dq step_io.p1, step_io.p2, step_io.p3, step_io.p4, step_io.p5
                dq step_io.p6, step_io.p6, step_io.p6, step_io.p7
section .text
STEP_BEGIN io
        mov edx, 0xcf9
.p1:    in al, dx
.p2:    mov rdi, buffer
.p3:    cld
.p4:    insb
.p5:    mov ecx, 3
.p6:    rep insb                        ; a trap after each element
.p7:
STEP_END

; MOV SS keeps the trap away for one instruction, also when that one exits.
section .rodata
align 8
step_shadow_points: dq step_shadow.p1, step_shadow.p2, step_shadow.p3, step_shadow.p4, step_shadow.p5
section .text
STEP_BEGIN shadow
        mov ecx, ss
.p1:    mov ss, ecx
        nop
.p2:    xor eax, eax
.p3:    mov ecx, ss
.p4:    mov ss, ecx
        cpuid
.p5:
STEP_END

; A fault of an instruction that exits: no trap for it, then the trap of the next.
section .rodata
align 8
step_fault_points: dq step_fault.p1, step_fault.p2, step_fault.p3, step_fault.p4, step_fault.p5
section .text
STEP_BEGIN fault
        mov ecx, 0x3a                   ; IA32_FEATURE_CONTROL, locked
.p1:    xor eax, eax
.p2:    xor edx, edx
.p3:
global step_fault_at
step_fault_at:
step_fault.p4:
        wrmsr                           ; the fault is logged here
        nop
step_fault.p5:
STEP_END

; Instruction and data breakpoints at exiting instructions.
global break_code, break_code_at, break_code_end, break_data, break_data_end
break_code:
        push rbx
        xor eax, eax
break_code_at:
        cpuid
break_code_end:
        pop rbx
        ret

; RDI points to a watched word that holds a stack selector.
break_data:
        push rbx
        xor eax, eax
        mov ss, [rdi]
        cpuid
break_data_end:
        pop rbx
        ret

; A breakpoint on a string instruction whose iterations exit.
global break_repeat, break_repeat_at, break_repeat_end
break_repeat:
        mov edx, 0xcf9
        mov rdi, buffer
        mov ecx, 3
        cld
break_repeat_at:
        rep insb
break_repeat_end:
        ret

; One instruction with the operand at RDI, and RSI: breakpoints on what it accesses are behind it.
%macro WATCHED 2+
global watch_%1, watch_%1_end
watch_%1:
        mov edx, 0xcf9
        cld
        %2
watch_%1_end:
        nop
        ret
%endmacro
WATCHED vmptrst, vmptrst [rdi]
WATCHED vmptrld, vmptrld [rdi]
WATCHED vmclear, vmclear [rdi]
WATCHED vmread, vmread [rdi], rsi
WATCHED vmwrite, vmwrite rsi, [rdi]
WATCHED invept, invept rsi, [rdi]
WATCHED invvpid, invvpid rsi, [rdi]
WATCHED insb, insb
WATCHED in, in al, dx
WATCHED out, out dx, al

; As L2: each point is the end of an instruction, or of an iteration.
section .rodata
align 8
global trap_l2_points
trap_l2_points: dq trap_l2.p1, trap_l2.p2, trap_l2.p3, trap_l2.p4, trap_l2.p5, trap_l2.p6, trap_l2.p7
        dq trap_l2.p8, trap_l2.p8, trap_l2.p8, trap_l2.p9, trap_l2.p10, 0
section .text
global trap_l2
trap_l2:
        mov edx, 0xcf9
.p1:    in al, dx
.p2:    mov ecx, 0x3a                   ; IA32_FEATURE_CONTROL
.p3:    rdmsr
.p4:    mov edx, 0xcf9
.p5:    mov rdi, buffer
.p6:    mov ecx, 3
.p7:    cld
.p8:    rep insb
.p9:    nop
.p10:   ret

global trap_vmfunc, trap_vmfunc_end, trap_vmread, trap_vmread_end
trap_vmfunc:
        vmfunc
trap_vmfunc_end:
        ret
trap_vmread:
        vmread rax, rsi
trap_vmread_end:
        ret

; Stores to a page at RDI that nobody touched before.
section .rodata
align 8
step_fill_points: dq step_fill.p1, step_fill.p2, step_fill.p3, step_fill.p4
section .text
STEP_BEGIN fill
        nop
.p1:    mov [rdi], eax
.p2:    mov [rdi + 4096], eax
.p3:    mov eax, [rdi + 8192]
.p4:
STEP_END

section .bss
alignb 8
buffer: resq 1
