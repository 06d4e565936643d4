/* The VMX instructions and the processor's own block, as the processors of tests/host/tlb_cpu.h execute them: the real
 * headers first, and what reaches hardware in them replaced. A test takes it with the second line  "cflags: -DCHECKED
 * -finstrument-functions -include tests/host/tlb_insn.h". tests/host/ only. */
#ifndef TESTS_HOST_TLB_INSN_H
#define TESTS_HOST_TLB_INSN_H

#include "kernel/percpu.h"
#include "kernel/x86.h"
#include "vmx/vmcs.h"
#include "vmx/vmx_insn.h"

struct cpu *tlb_this_cpu(void);
uint64_t tlb_vmread(uint32_t encoding);
void tlb_vmwrite(uint32_t encoding, uint64_t value);
bool tlb_vmptrld(hpa_t vmcs);
bool tlb_vmclear(hpa_t vmcs);
bool tlb_invept(uint64_t type, struct invalidate_descriptor descriptor);
bool tlb_invvpid(uint64_t type, struct invalidate_descriptor descriptor);

#undef vmcs_read
#undef vmcs_read_wide
#undef vmcs_write
#define this_cpu tlb_this_cpu
#define read_cr4() (CR4_MCE | CR4_VMXE)
#define vmcs_read(field) tlb_vmread((field).encoding)
#define vmcs_read_wide(field) tlb_vmread((field).encoding)
#define vmcs_write(field, value) tlb_vmwrite((field).encoding, value)
#define vmcs_read_encoding(encoding) tlb_vmread(encoding)
#define vmcs_write_encoding(encoding, value) tlb_vmwrite(encoding, value)
#define vmcs_read_to(value, encoding) ((void)(*(value) = tlb_vmread(encoding)))
#define vmread_checked(encoding, value) ((*(value) = tlb_vmread(encoding)), true)
#define insn_vmptrld tlb_vmptrld
#define insn_vmclear tlb_vmclear
#define insn_invept tlb_invept
#define insn_invvpid tlb_invvpid

#endif
