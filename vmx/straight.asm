; The straight way between L2 and L1 (vmx/straight.h). Nothing is on a stack: L2's and L1's general registers stay where
; they are, RAX and RDX are put aside in struct straight. RDX is the plan of the current vmcs12.
;
; Whatever is not as the plan says goes the long way, with all registers as the guest had them: vmx_exit.

%include "vmx/straight.inc"

extern vmx_exit, vmx_straight_checked, straight_dead
extern straight_l1_alone
extern end_cpuid, end_cpuid_last, end_vmread, end_vmread_last, end_vmwrite, end_vmwrite_last
global straight_exit_l1, straight_exit_l2, straight_ends, straight_ends_count
global long_way, long_way_rax, long_way_rcx

section .text

; --- An exit of L2 ---

straight_exit_l2:               ; HOST_RIP of vmcs02
        mov     [CPU(S_RAX)], rax
        cmp     byte [CPU(S_QUIET)], 0
        je      long_way_rax
        mov     [CPU(S_RDX)], rdx
        mov     rdx, [CPU(S_PLAN)]
        COUNTED VMREADS, 2
        READ    GUEST_CR0
        and     rax, [rdx + P_CR0_MASK]
        cmp     rax, [rdx + P_CR0_KEPT]
        jne     long_way
        READ    EXIT_REASON
        cmp     eax, REASON_MAX         ; an entry that failed has bit 31
        ja      long_way
        bt      qword [rdx + P_REASONS], rax
        jnc     msr_exit
l1_wants:
        inc     qword [CPU(S_BY_REASON) + rax * 8]
        COUNTED VMREADS, 1
        READ_TO HOST_RSP, P_IMAGE       ; L1's, which it may have written there itself
        test    dword [rdx + P_SHAPE], SHAPE_EXIT
        jnz     shape_exit
exit_shaped:
        vmclear [rdx + P_VMCS02]
        jbe     straight_dead
        mov     rax, [rdx + P_REVISION]
        or      dword [rax], TYPE_SHADOW
        vmptrld [CPU(S_VMCS01)]
        jbe     straight_dead
        COUNTED VMCLEARS, 1
        COUNTED VMPTRLDS, 1
        COUNTED VMWRITES, STRAIGHT_ROW_COUNT
        STRAIGHT_WRITE_ROWS
        mov     byte [CPU(S_WENT)], 2
        inc     qword [CPU(S_EXITS)]
        END     end_l1, S_STOP, jne, vmresume

; RDMSR and WRMSR: L1's when its bitmap says so, of which the plan has the copy that was merged.
%define REASON_RDMSR 31
%define REASON_WRMSR 32
%define MSR_RANGE 0xffffe000    ; not in the number, but for the upper range's two
%define MSR_UPPER 0xc0000000
%define BITS_UPPER 0x2000       ; of the page: where each part begins
%define BITS_WRITE 0x4000
msr_exit:
        cmp     qword [rdx + P_MSR_PAGE], 0
        je      long_way
        mov     edx, BITS_WRITE
        cmp     eax, REASON_WRMSR
        je      .range
        xor     edx, edx
        cmp     eax, REASON_RDMSR
        jne     long_way
.range: mov     eax, ecx
        test    eax, MSR_RANGE
        jz      .bit
        xor     eax, MSR_UPPER
        test    eax, MSR_RANGE
        jnz     long_way
        add     eax, BITS_UPPER
.bit:   add     eax, edx
        mov     rdx, [CPU(S_PLAN)]
        mov     rdx, [rdx + P_MSR_PAGE]
        bt      [rdx], rax
        mov     rdx, [CPU(S_PLAN)]
        jnc     long_way
        COUNTED VMREADS, 1
        READ    EXIT_REASON
        jmp     l1_wants

shape_exit:
        IF_SHAPE SHAPE_NMI, .nmi
        COUNTED VMREADS, 1
        READ    GUEST_INTERRUPTIBILITY
        test    al, BLOCKING_BY_NMI
        jnz     uncount
.nmi:   IF_SHAPE SHAPE_KEEP_EFER, .efer
        COUNTED VMREADS, 1
        READ    GUEST_EFER
        and     rax, ~EFER_LME_LMA
        or      rax, [rdx + P_EFER_KEPT]
        mov     [rdx + P_IMAGE + 8 * STRAIGHT_GUEST_EFER], rax
.efer:  IF_SHAPE SHAPE_KEEP_PAT, .pat
        COUNTED VMREADS, 1
        READ_TO GUEST_PAT, P_IMAGE + 8 * STRAIGHT_GUEST_PAT
.pat:   IF_SHAPE SHAPE_TIMER, .timer
        COUNTED VMWRITES, 1
        WRITE_FROM PREEMPTION_TIMER, P_TIMER
.timer: IF_SHAPE SHAPE_NO_VPID, exit_shaped
        COUNTED INVVPIDS, 1
        mov     rax, [rdx + P_INVVPID_TYPE]
        invvpid rax, [rdx + P_INVVPID_L1]
        ja      exit_shaped
        jmp     straight_dead

uncount:
        COUNTED VMREADS, 1
        READ    EXIT_REASON
        dec     qword [CPU(S_BY_REASON) + rax * 8]
long_way:
        mov     rdx, [CPU(S_RDX)]
long_way_rax:
        mov     rax, [CPU(S_RAX)]
        jmp     vmx_exit
long_way_rcx:
        mov     rcx, [CPU(S_RCX)]
        jmp     long_way

; --- An exit of L1 ---

straight_exit_l1:               ; HOST_RIP of vmcs01
        mov     [CPU(S_RAX)], rax
        COUNTED VMREADS, 1
        READ    EXIT_REASON
        cmp     eax, REASON_VMRESUME
        jne     straight_l1_alone
        cmp     byte [CPU(S_QUIET)], 0
        je      long_way_rax
        COUNTED VMREADS, 2
        READ    GUEST_CS_AR_BYTES
        and     eax, AR_MODE
        cmp     eax, AR_KERNEL64        ; the plan is for an L1 in 64-bit mode; CPL is 0 then
        jne     long_way_rax
        READ    GUEST_INTERRUPTIBILITY
        test    al, BLOCKING_BY_MOV_SS
        jnz     long_way_rax
        mov     [CPU(S_RDX)], rdx
        mov     rdx, [CPU(S_PLAN)]
        test    dword [rdx + P_SHAPE], SHAPE_ENTRY
        jnz     shape_entry
        OPEN_L2
entry_shaped:
        COUNTED VMCLEARS, 1
        COUNTED VMPTRLDS, 1
        mov     byte [CPU(S_WENT)], 1
        inc     qword [CPU(S_ENTRIES)]
        END     end_l2, S_QUIET, je, vmlaunch

shape_entry:
        IF_SHAPE SHAPE_READ_EFER, .l1_efer
        COUNTED VMREADS, 1
        READ    GUEST_EFER
        cmp     rax, [rdx + P_L1_EFER]
        jne     long_way
.l1_efer:
        IF_SHAPE SHAPE_READ_DEBUG, .l1_debug
        COUNTED VMREADS, 2
        READ_TO GUEST_DR7, P_DR7
        READ_TO GUEST_DEBUGCTL, P_DEBUGCTL
.l1_debug:
        IF_SHAPE SHAPE_READ_PAT, .l1_pat
        COUNTED VMREADS, 1
        READ_TO GUEST_PAT, P_PAT
.l1_pat:
        OPEN_L2
        IF_SHAPE SHAPE_PROC, .proc
        COUNTED VMWRITES, 1
        WRITE_FROM PROC_CONTROLS, P_PROC
        and     dword [rdx + P_SHAPE], ~SHAPE_PROC & 0xffffffff
.proc:
        IF_SHAPE SHAPE_DEBUG, .debug
        COUNTED VMWRITES, 2
        WRITE_FROM GUEST_DR7, P_DR7
        WRITE_FROM GUEST_DEBUGCTL, P_DEBUGCTL
.debug: IF_SHAPE SHAPE_PAT, .pat
        COUNTED VMWRITES, 1
        WRITE_FROM GUEST_PAT, P_PAT
.pat:   IF_SHAPE SHAPE_EFER, .efer
        COUNTED VMWRITES, 1
        WRITE_FROM GUEST_EFER, P_EFER
.efer:  IF_SHAPE SHAPE_TIMER, .timer
        COUNTED VMREADS, 1
        READ_TO PREEMPTION_TIMER, P_TIMER
.timer: IF_SHAPE SHAPE_NO_VPID, .vpid
        COUNTED INVVPIDS, 1
        mov     rax, [rdx + P_INVVPID_TYPE]
        invvpid rax, [rdx + P_INVVPID_L2]
        jbe     straight_dead
.vpid:  IF_SHAPE SHAPE_NMI, entry_shaped
        COUNTED VMREADS, 1
        READ    ENTRY_INTERRUPTION_INFO
        test    eax, eax
        jns     entry_shaped

; L1 injects, and blocking by NMI is not its own: Nestor takes the event over (event_recall) and enters L2.
event:
        mov     byte [CPU(S_WENT)], 1
        inc     qword [CPU(S_ENTRIES)]
        mov     rdx, [CPU(S_RDX)]
        mov     rax, [CPU(S_RAX)]
        jmp     vmx_straight_again

section .rodata
align 8
straight_ends:
        dq      end_cpuid, end_cpuid_last
        dq      end_vmread, end_vmread_last
        dq      end_vmwrite, end_vmwrite_last
%ifdef CHECKED
straight_ends_count:
        dq      3
%else
        dq      end_l1, end_l1_last
        dq      end_l2, end_l2_last
straight_ends_count:
        dq      5
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
