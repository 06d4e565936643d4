; The straight way between L2 and L1 (vmx/straight.h; docs/FLOWS.md, flow 10).
;
; L2's and L1's general registers are the same registers: an exit from one and an entry into the other change RSP, RIP
; and RFLAGS, which are in the VMCS, and no other. So they stay where they are, and nothing is on a stack. RAX and RDX
; are needed for the work and are put aside in struct straight; RDX then has the plan of the current vmcs12.
;
; Each question is asked while everything is still as the exit left it. Whatever is not as the plan says goes the long
; way, to vmx_exit, with all registers as the guest had them: the long way cannot tell that the straight one was tried.
; Once vmcs02 is turned there is no way back, so no question comes after that; only the last look before the entry does,
; and what it finds is told by S_MOVES (straight_settle() of nested/settle brings the rest up to date).

%include "vmx/straight.inc"

extern vmx_exit, vmx_straight_checked, straight_dead
extern straight_l1_alone, straight_ept_exit, straight_ept_enter, straight_lists_exit, straight_lists_enter
extern end_cpuid, end_cpuid_last, end_vmread, end_vmread_last, end_vmwrite, end_vmwrite_last
extern end_vmptrld, end_vmptrld_last, end_invept, end_invept_last, end_invvpid, end_invvpid_last
global straight_exit_l1, straight_exit_l2, straight_ends, straight_ends_count
global long_way, long_way_rax, long_way_rcx
global straight_to_l1, straight_to_l2

; Parts of shape_exit and shape_entry, which bare_exit and bare_entry have without a test. RDX: the plan.
;
; L2 has blocked NMIs for the processor: L1 goes on with that.
%macro EXIT_NMI 0
        COUNTED VMREADS, 1
        READ    GUEST_INTERRUPTIBILITY
        test    al, BLOCKING_BY_NMI
        jnz     uncount
%endmacro
%macro EXIT_EFER 0
        COUNTED VMREADS, 1
        READ    GUEST_EFER
        and     rax, ~EFER_LME_LMA
        or      rax, [rdx + P_EFER_KEPT]
        mov     [rdx + P_IMAGE + 8 * STRAIGHT_GUEST_EFER], rax
%endmacro
%macro EXIT_PAT 0
        COUNTED VMREADS, 1
        READ_TO GUEST_PAT, P_IMAGE + 8 * STRAIGHT_GUEST_PAT
%endmacro
%macro ENTRY_READ_EFER 0
        COUNTED VMREADS, 1
        READ    GUEST_EFER
        cmp     rax, [rdx + P_L1_EFER]
        jne     long_way
%endmacro
%macro ENTRY_READ_DEBUG 0
        COUNTED VMREADS, 2
        READ_TO GUEST_DR7, P_DR7
        READ_TO GUEST_DEBUGCTL, P_DEBUGCTL
%endmacro
%macro ENTRY_READ_PAT 0
        COUNTED VMREADS, 1
        READ_TO GUEST_PAT, P_PAT
%endmacro
%macro ENTRY_DEBUG 0
        COUNTED VMWRITES, 2
        WRITE_FROM GUEST_DR7, P_DR7
        WRITE_FROM GUEST_DEBUGCTL, P_DEBUGCTL
%endmacro
%macro ENTRY_PAT 0
        COUNTED VMWRITES, 1
        WRITE_FROM GUEST_PAT, P_PAT
%endmacro
%macro ENTRY_EFER 0
        COUNTED VMWRITES, 1
        WRITE_FROM GUEST_EFER, P_EFER
%endmacro
%macro FLUSH 2                  ; the descriptor, where to go on
        COUNTED INVVPIDS, 1
        mov     rax, [rdx + P_INVVPID_TYPE]
        invvpid rax, [rdx + %1]
        ja      %2
        jmp     straight_dead
%endmacro

section .text

; --- An exit of L2 ---

; HOST_RIP of vmcs02, which is current. L2's registers, except for RSP, which the processor has loaded from HOST_RSP: in
; vmcs02 that is L1's, and no stack of Nestor's (vmx/entry.asm).
straight_exit_l2:
        mov     [CPU(S_RAX)], rax
        cmp     byte [CPU(S_QUIET)], 0
        je      long_way_rax
        mov     [CPU(S_RDX)], rdx
        mov     rdx, [CPU(S_PLAN)]
        COUNTED VMREADS, 2
; L1 goes on with some bits of L2's CR0, which no host-state field has: SDM 3C 28.5.1. The image has them as they were
; at the last exit that took the long way.
        READ    GUEST_CR0
        and     rax, [rdx + P_CR0_MASK]
        cmp     rax, [rdx + P_CR0_KEPT]
        jne     long_way
        READ    EXIT_REASON
        cmp     eax, REASON_MAX         ; an entry that failed has bit 31
        ja      long_way
        bt      qword [rdx + P_REASONS], rax
        jnc     msr_exit
; The exit is L1's. What it says, and L2's state, stay in vmcs02, where L1 reads them: nothing is copied.
l1_wants:
        inc     qword [CPU(S_BY_REASON) + rax * 8]
        COUNTED VMREADS, 1
        READ_TO HOST_RSP, P_IMAGE       ; L1's, which it may have written there itself
        test    dword [rdx + P_SHAPE], SHAPE_EXIT
        jnz     shape_exit
; vmcs02 becomes L1's shadow VMCS. Its type may be changed only while it is not active, so VMCLEAR comes first: SDM 3C
; 25.2 "Format of the VMCS Region". vmcs01's link pointer has had its address since L1 was first shown it.
exit_shaped:
        vmclear [rdx + P_VMCS02]
        jbe     straight_dead
        mov     rax, [rdx + P_REVISION]
        or      dword [rax], VMCS_SHADOW_INDICATOR
        vmptrld [CPU(S_VMCS01)]
        jbe     straight_dead
        COUNTED VMCLEARS, 1
        COUNTED VMPTRLDS, 1
        COUNTED VMWRITES, STRAIGHT_ROWS_WRITTEN
        STRAIGHT_WRITE_ROWS             ; SDM 3C 28.5 "Loading Host State", from the image
        inc     qword [CPU(S_MOVES)]
        END     end_l1, S_STOP, jne, vmresume

; RDMSR and WRMSR: L1's when its bitmap says so, of which the plan has the copy that was merged. ECX is L2's: the number
; of the MSR. The page has four parts of 1024 bytes, a bit for each MSR: reads of 0H to 1FFFH, reads of C0000000H to
; C0001FFFH, and writes of both; any other number always exits, and is left to the long way. SDM 3C 25.6.9 "MSR-Bitmap
; Address"
msr_exit:
        cmp     qword [rdx + P_MSR_PAGE], 0
        je      paging_exit
        mov     edx, BITS_WRITE
        cmp     eax, EXIT_WRMSR
        je      .range
        xor     edx, edx
        cmp     eax, EXIT_RDMSR
        jne     paging_exit
.range: mov     eax, ecx
        test    eax, MSR_OUTSIDE
        jz      .bit
        xor     eax, MSR_BITMAP_HIGH_BASE
        test    eax, MSR_OUTSIDE
        jnz     long_way
        add     eax, BITS_HIGH
.bit:   add     eax, edx
        mov     rdx, [CPU(S_PLAN)]
        mov     rdx, [rdx + P_MSR_PAGE]
        bt      [rdx], rax              ; any bit of the page: a BT on memory goes beyond the first 64
        mov     rdx, [CPU(S_PLAN)]
        jnc     long_way                ; 0 in L1's page: the exit is L0's alone
        COUNTED VMREADS, 1
        READ    EXIT_REASON
        jmp     l1_wants

; Exceptions and accesses to control registers. vmcs02 has L1's exception bitmap, mask and match of error codes, masks
; and shadows of CR0 and CR4, CR3 targets and controls for CR3 and CR8 as L1 wrote them, so the CPU has asked what
; nested/rules/decide.c asks. Nestor adds NMIs, and the bits of CR4 that L1's CPU has not. RDX is free here.
paging_exit:
        cmp     eax, EXIT_EXCEPTION_NMI
        jne     .cr
        COUNTED VMREADS, 1
        READ    EXIT_INTERRUPTION_INFO
        and     eax, INTR_TYPE
        cmp     eax, INTR_IS_NMI
        je      long_way
        mov     rdx, [CPU(S_PLAN)]
        mov     eax, EXIT_EXCEPTION_NMI
        jmp     l1_wants
.cr:    cmp     eax, EXIT_CR_ACCESS
        jne     ept_exit
        COUNTED VMREADS, 1
        READ    EXIT_QUALIFICATION      ; CLTS and LMSW have the number 0
        and     eax, CR_QUAL_NUMBER
        cmp     eax, 4
        je      long_way
        mov     rdx, [CPU(S_PLAN)]
        mov     eax, EXIT_CR_ACCESS
        jmp     l1_wants

; EPT violations: those for which there is nothing but an entry of EPT12 to be looked at (nested/straight_ept.c).
ept_exit:
        cmp     eax, EXIT_EPT_VIOLATION
        jne     long_way
        CALL_C  straight_ept_exit
        cmp     eax, VIOLATION_OF_L1
        ja      filled
        jb      long_way
        mov     rdx, [CPU(S_PLAN)]
        mov     eax, EXIT_EPT_VIOLATION
        jmp     l1_wants
filled:                         ; EPT02 has the page now, so L2 goes on
        END     end_filled, S_QUIET, je, vmresume

; The rest that some vmcs12s ask for (SHAPE_ of vmx/straight.h), each for itself. The first three may still turn back.
shape_exit:
        cmp     dword [rdx + P_SHAPE], SHAPE_BARE
        je      bare_exit
        IF_SHAPE SHAPE_MODE, .mode      ; L2 has left 64-bit mode: EFER will be another, SDM 3C 27.3.2.1
        COUNTED VMREADS, 1
        READ    ENTRY_CONTROLS
        test    eax, ENTRY_GUEST_64
        jz      uncount
.mode:  IF_SHAPE SHAPE_NMI | SHAPE_EXIT_LISTS, .nmi
        IF_SHAPE SHAPE_NMI, .lists
        EXIT_NMI
.lists: IF_SHAPE SHAPE_EXIT_LISTS, .nmi
        CALL_C  straight_lists_exit
        mov     rdx, [CPU(S_PLAN)]
        test    al, al
        jz      uncount
.nmi:   IF_SHAPE SHAPE_KEEP_EFER, .efer
        EXIT_EFER
.efer:  IF_SHAPE SHAPE_KEEP_PAT, .pat
        EXIT_PAT
.pat:   IF_SHAPE SHAPE_TIMER, .timer
        COUNTED VMWRITES, 1
        WRITE_FROM PREEMPTION_TIMER, P_TIMER
.timer: IF_SHAPE SHAPE_NO_VPID, exit_shaped
        FLUSH   P_INVVPID_L1, exit_shaped
bare_exit:
        EXIT_NMI
        EXIT_EFER
        EXIT_PAT
        FLUSH   P_INVVPID_L1, exit_shaped

uncount:                        ; the long way counts the exit itself
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

; The long way has looked at the exit, counted it, and found it L1's: what is asked above was asked there, of this exit
; alone (nested/quiet.c:straight_may_exit). All registers are L2's again.
straight_to_l1:
        mov     [CPU(S_RAX)], rax
        mov     [CPU(S_RDX)], rdx
        mov     rdx, [CPU(S_PLAN)]
        COUNTED VMREADS, 1
        READ_TO HOST_RSP, P_IMAGE
        test    dword [rdx + P_SHAPE], SHAPE_EXIT
        jz      exit_shaped
        jmp     shape_exit.nmi

; --- An exit of L1 ---

; To the long way unless VMRESUME may enter.
%macro L1_MAY_ENTER 0
        COUNTED VMREADS, 2
; CS and interruptibility are as an exit loads them, and stay in vmcs01 as they are: the next exit writes neither. So L1
; is in 64-bit mode, for which the plan is, at CPL 0, and nothing is blocked by MOV SS, which would fail the entry.
        READ    GUEST_CS_AR_BYTES
        cmp     eax, ACCESS_CODE64
        jne     long_way_rax
        READ    GUEST_INTERRUPTIBILITY
        test    eax, eax
        jnz     long_way_rax
%endmacro

; HOST_RIP of vmcs01, which is current. Of all exits of L1 this part takes VMRESUME, and vmx/straight_l1.asm three more.
straight_exit_l1:
        mov     [CPU(S_RAX)], rax
        COUNTED VMREADS, 1
        READ    EXIT_REASON
        cmp     eax, EXIT_VMRESUME
        jne     straight_l1_alone
        cmp     byte [CPU(S_QUIET)], QUIET_ALL
        jne     revisit
        L1_MAY_ENTER
open_l2:
        mov     [CPU(S_RDX)], rdx
open_kept:
        mov     rdx, [CPU(S_PLAN)]
        test    dword [rdx + P_SHAPE], SHAPE_ENTRY
        jnz     shape_entry
; No field of vmcs02 is written: it has what L1 wrote to it as to its shadow VMCS, and all else was there before.
; VMCLEAR has made its launch state clear, so L1's VMRESUME is a VMLAUNCH of Nestor's.
        OPEN_L2
entry_shaped:
        COUNTED VMCLEARS, 1
        COUNTED VMPTRLDS, 1
        inc     qword [CPU(S_MOVES)]
        END     end_l2, S_QUIET, je, vmlaunch

; L1 was told of an EPT violation, and may have mapped the page.
revisit:
        cmp     byte [CPU(S_QUIET)], QUIET_BUT_REVISIT
        jne     long_way_rax
        L1_MAY_ENTER
        mov     [CPU(S_RDX)], rdx
        CALL_C  straight_ept_enter
        test    al, al
        jnz     open_kept
        jmp     long_way

; The long way has done what was due before this entry, and asked what is asked above (nested/quiet.c:
; straight_may_enter): now all is quiet. All registers are L1's again. Only a list of MSRs may turn this back, and the
; long way does not come here again then: there is no plan any longer.
straight_to_l2:
        mov     [CPU(S_RAX)], rax
        jmp     open_l2

; The rest that some vmcs12s ask for. First what is read of L1's while vmcs01 is current: registers that no control
; loads, so that L2 starts with L1's. Then vmcs02 is current, and gets them.
shape_entry:
        cmp     dword [rdx + P_SHAPE], SHAPE_BARE
        je      bare_entry
        IF_SHAPE SHAPE_READ_EFER | SHAPE_ENTRY_LIST, .l1_efer
        IF_SHAPE SHAPE_READ_EFER, .list
        ENTRY_READ_EFER
.list:  IF_SHAPE SHAPE_ENTRY_LIST, .l1_efer
        CALL_C  straight_lists_enter
        mov     rdx, [CPU(S_PLAN)]
        test    al, al
        jz      long_way
.l1_efer:
        IF_SHAPE SHAPE_READ_DEBUG, .l1_debug
        ENTRY_READ_DEBUG
.l1_debug:
        IF_SHAPE SHAPE_READ_PAT, .l1_pat
        ENTRY_READ_PAT
.l1_pat:
        OPEN_L2
        IF_SHAPE SHAPE_PROC, .proc
        COUNTED VMWRITES, 1
        COUNTED MAJORS, 1
        WRITE_FROM PROC_CONTROLS, P_PROC
        and     dword [rdx + P_SHAPE], ~SHAPE_PROC & 0xffffffff
.proc:  IF_SHAPE SHAPE_DEBUG, .debug
        ENTRY_DEBUG
.debug: IF_SHAPE SHAPE_PAT, .pat
        ENTRY_PAT
.pat:   IF_SHAPE SHAPE_EFER, .efer
        ENTRY_EFER
.efer:  IF_SHAPE SHAPE_TIMER, .timer
        COUNTED VMREADS, 1
        READ_TO PREEMPTION_TIMER, P_TIMER
.timer: IF_SHAPE SHAPE_NO_VPID, .vpid
        FLUSH   P_INVVPID_L2, .vpid
.vpid:  IF_SHAPE SHAPE_NMI, entry_shaped
        jmp     event_or_entry
bare_entry:
        ENTRY_READ_EFER
        ENTRY_READ_DEBUG
        ENTRY_READ_PAT
        OPEN_L2
        ENTRY_DEBUG
        ENTRY_PAT
        ENTRY_EFER
        FLUSH   P_INVVPID_L2, event_or_entry
event_or_entry:
        COUNTED VMREADS, 1
        READ    ENTRY_INTERRUPTION_INFO
        test    eax, eax
        jns     entry_shaped

; L1 injects, and blocking by NMI is not its own: Nestor takes the event over (event_recall) and enters L2.
event:
        inc     qword [CPU(S_MOVES)]
        mov     rdx, [CPU(S_RDX)]
        mov     rax, [CPU(S_RAX)]
        jmp     vmx_straight_again

; Between the last look at the byte and the instruction that enters the guest an NMI may come, and would find the look
; done: its handler (vmx/kick.c:kick_nmi) finds RIP between a pair of these, and goes on at vmx_straight_again.
section .rodata
align 8
straight_ends:
        dq      end_cpuid, end_cpuid_last
        dq      end_vmread, end_vmread_last
        dq      end_vmwrite, end_vmwrite_last
        dq      end_vmptrld, end_vmptrld_last
        dq      end_invept, end_invept_last
        dq      end_invvpid, end_invvpid_last
%ifdef CHECKED
straight_ends_count:
        dq      6
%else
        dq      end_l1, end_l1_last
        dq      end_l2, end_l2_last
        dq      end_filled, end_filled_last
straight_ends_count:
        dq      9
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
