; The tasks of l1_tasks.c, and the code that switches to them. All of it runs in the environment of l1_legacy.asm.

%include "guests/scenarios/l1_legacy.inc"

LAPIC_ICR_LOW equ 0xfee00300
LAPIC_ICR_HIGH equ 0xfee00310
LAPIC_ID equ 0xfee00020
LAPIC_EOI equ 0xfee000b0
ICR_SELF_41 equ 0x40041
ICR_NMI equ 0x400

ACTION_END equ 0
ACTION_IRET equ 1
ACTION_JMP equ 2
ACTION_NMI_IRET equ 3                   ; the first time: send itself an NMI before the IRET

extern legacy_return, legacy_main_tss
extern task_seen, task_after, task_action, task_skip, task_far, task_back, task_window

section .text
bits 32

; Writes all registers to a struct task_registers at %1, through a flat DS.
%macro RECORD 1
        mov [%1], eax
        mov [%1 + 4], ecx
        mov [%1 + 8], edx
        mov [%1 + 12], ebx
        mov [%1 + 16], esp
        mov [%1 + 20], ebp
        mov [%1 + 24], esi
        mov [%1 + 28], edi
        pushfd
        pop dword [%1 + 32]
        mov [%1 + 36], es
        mov [%1 + 40], cs
        mov [%1 + 44], ss
        mov [%1 + 48], ds
        mov [%1 + 52], fs
        mov [%1 + 56], gs
        sldt [%1 + 60]
        str [%1 + 64]
        mov eax, cr0
        mov [%1 + 68], eax
        mov eax, cr3
        mov [%1 + 72], eax
        mov eax, dr7
        mov [%1 + 76], eax
        inc dword [%1 + 80]
%endmacro

; A task: says what it found, and does what task_action says.
align 16
global task_entry, task_entry_end
task_entry:
        RECORD task_seen
        mov eax, [task_window]
        test eax, eax
        jz .no_window
        mov eax, [eax]
        mov [task_seen + 84], eax
.no_window:
        mov eax, [task_skip]
        add [legacy_main_tss + 0x20], eax
        cmp dword [task_action], ACTION_IRET
        je .iret
        cmp dword [task_action], ACTION_JMP
        je .jmp
        cmp dword [task_action], ACTION_NMI_IRET
        je .nmi
        jmp L_CODE32:legacy_return
.nmi:
        cmp dword [task_seen + 80], 1
        jne .iret
        mov eax, [LAPIC_ID]
        mov [LAPIC_ICR_HIGH], eax
        mov dword [LAPIC_ICR_LOW], ICR_NMI
        nop
        nop
        cpuid
        nop
        cmp dword [task_seen + 80], 1   ; still blocked
        jne .iret
        mov dword [task_seen + 88], 1
.iret:
        mov dword [LAPIC_EOI], 0
        iretd
        jmp task_entry
.jmp:
        jmp far [task_back]
        jmp task_entry
task_entry_end:

; A task at CPL 3, and one that goes through a task gate from there.
align 16
global task_user, task_user_call
task_user:
        int 0x80
task_user_call:
        call far [task_far]
        int 0x80

; Virtual-8086 code, copied below 1 MiB: HLT is a #GP there.
bits 16
global task_v86, task_v86_end
task_v86:
        mov ax, cs
        mov bx, ds
        mov cx, ss
        hlt
task_v86_end:
bits 32

; Known values in the registers that a switch must save.
%macro SET_REGISTERS 0
        mov eax, 0xa0000000
        mov ecx, 0xa0000001
        mov edx, 0xa0000002
        mov ebx, 0xa0000003
        mov ebp, 0xa0000005
        mov esi, 0xa0000006
        mov edi, 0xa0000007
%endmacro

; %1: name; what follows until END_SWITCHER is the switch, main_%1_back where the old task goes on.
%macro SWITCHER 1
global main_%1, main_%1_at, main_%1_back
main_%1:
        SET_REGISTERS
main_%1_at:
%endmacro
%macro END_SWITCHER 1
main_%1_back:
        RECORD task_after
        ret
%endmacro

SWITCHER jmp
        jmp far [task_far]
END_SWITCHER jmp

; To the task that task_back names: task_far is for that task.
SWITCHER jmp_user
        jmp far [task_back]
END_SWITCHER jmp_user

SWITCHER call
        call far [task_far]
END_SWITCHER call

SWITCHER int80
        int 0x80
END_SWITCHER int80

SWITCHER int3
        int3
END_SWITCHER int3

SWITCHER int1
        db 0xf1
END_SWITCHER int1

; INTO with OF set.
SWITCHER into
        mov ecx, 0x7fffffff
        inc ecx
        into
END_SWITCHER into

SWITCHER ud
        ud2
END_SWITCHER ud

; #GP with an error code: a selector beyond the GDT.
SWITCHER gp
        mov es, [gp_selector]
END_SWITCHER gp

; #PF: the byte at task_window.
SWITCHER pf
        mov dl, [0x70000000]
END_SWITCHER pf

SWITCHER ipi
        mov dword [LAPIC_ICR_LOW], ICR_SELF_41
        sti
        nop
main_ipi_in:
        nop
        nop
        cli
END_SWITCHER ipi

SWITCHER nmi
        mov ebx, [LAPIC_ID]
        mov [LAPIC_ICR_HIGH], ebx
        mov dword [LAPIC_ICR_LOW], ICR_NMI
        nop
        nop
        nop
END_SWITCHER nmi

; Local and global breakpoints on before the switch.
SWITCHER debug
        mov ebx, 0x70000000
        mov dr0, ebx
        mov dr1, ebx
        mov ebx, 0x30f                  ; GE LE, G1 L1, G0 L0
        mov dr7, ebx
        jmp far [task_far]
END_SWITCHER debug

section .rodata
gp_selector: dw 0x0ff8
