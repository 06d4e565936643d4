/* kvm-mini NAME: a user of /dev/kvm of the smallest kind. Its guest is a few 16-bit instructions that print a line, so
 * that a further level of virtualization costs no boot of a kernel. Status 0 when the guest said it and halted. */
#include <linux/kvm.h>

#include "sys.h"

enum { SYS_OPEN = 2, SYS_MMAP = 9, SYS_IOCTL = 16 };
#define O_RDWR 2
#define PROT_READ_WRITE 3
#define MAP_SHARED 1
#define PAGE 4096

static char line[256];
static unsigned int length;
static const char *program;

static void append(const char *text)
{
    while (*text && length < sizeof(line))
        line[length++] = *text++;
}

static void append_number(unsigned long value)
{
    char digits[24];
    unsigned int at = sizeof(digits) - 1;

    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    append(digits + at);
}

__attribute__((noreturn)) static void quit(long status)
{
    sys_call(SYS_WRITE, 1, (long)line, length, 0);
    sys_call(SYS_EXIT, status, 0, 0, 0);
    __builtin_unreachable();
}

__attribute__((noreturn)) static void fail(const char *what, unsigned long number)
{
    append(program);
    append(": ");
    append(what);
    append(" ");
    append_number(number);
    append("\n");
    quit(1);
}

/* The result of a system call that must not fail; else its errno is told. */
static long must(const char *what, long result)
{
    if (result < 0 && result > -PAGE)
        fail(what, (unsigned long)-result);
    return result;
}

/* The stack at the entry point is argc, argv[0], argv[1], ... (System V ABI). */
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");

#define GUEST_BASE 0x1000 /* physical address of its only page, and of its first instruction */
#define GUEST_TEXT 0x800  /* offset of the line in that page */
#define GUEST_PORT 0x3f8

extern const unsigned char guest_code[], guest_code_end[];
__asm__(".pushsection .rodata\n"
        "guest_code:\n"
        ".code16\n"
        "	mov $0x1800, %si\n" /* GUEST_BASE + GUEST_TEXT */
        "	mov $0x3f8, %dx\n"
        "	cld\n"
        "1:	lodsb\n"
        "	test %al, %al\n"
        "	jz 2f\n"
        "	out %al, %dx\n"
        "	jmp 1b\n"
        "2:	hlt\n"
        ".code64\n"
        "guest_code_end:\n"
        ".popsection\n");

static unsigned char guest_page[PAGE] __attribute__((aligned(PAGE)));

static long control(const char *what, long fd, unsigned long request, const void *argument)
{
    return must(what, sys_call(SYS_IOCTL, fd, (long)request, (long)argument, 0));
}

static void fill_guest(const char *name)
{
    static const char text[] = ": hello from a guest of kvm-mini\n";
    unsigned char *to = guest_page + GUEST_TEXT;

    for (const unsigned char *from = guest_code; from < guest_code_end; from++)
        guest_page[from - guest_code] = *from;
    for (; *name && to < guest_page + PAGE - sizeof(text); name++)
        *to++ = (unsigned char)*name;
    for (unsigned int i = 0; i < sizeof(text); i++)
        to[i] = (unsigned char)text[i];
}

static long create_vm(long kvm)
{
    const struct kvm_userspace_memory_region memory = {
        .guest_phys_addr = GUEST_BASE, .memory_size = PAGE, .userspace_addr = (unsigned long)guest_page};
    long vm = control("KVM_CREATE_VM", kvm, KVM_CREATE_VM, 0);

    control("KVM_SET_USER_MEMORY_REGION", vm, KVM_SET_USER_MEMORY_REGION, &memory);
    return vm;
}

/* Real mode is the state after a reset; only where to begin is set. */
static void set_start(long vcpu)
{
    static struct kvm_sregs special;
    static const struct kvm_regs general = {.rip = GUEST_BASE, .rflags = 2};

    control("KVM_GET_SREGS", vcpu, KVM_GET_SREGS, &special);
    special.cs.base = 0;
    special.cs.selector = 0;
    control("KVM_SET_SREGS", vcpu, KVM_SET_SREGS, &special);
    control("KVM_SET_REGS", vcpu, KVM_SET_REGS, &general);
}

static void run_guest(long vcpu, const struct kvm_run *state)
{
    for (;;) {
        control("KVM_RUN", vcpu, KVM_RUN, 0);
        if (state->exit_reason == KVM_EXIT_HLT)
            return;
        if (state->exit_reason != KVM_EXIT_IO || state->io.direction != KVM_EXIT_IO_OUT || state->io.port != GUEST_PORT)
            fail("unexpected exit", state->exit_reason);
        if (length < sizeof(line))
            line[length++] = *((const char *)state + state->io.data_offset);
    }
}

__attribute__((used, noreturn)) static void run(long *stack)
{
    const char *name = stack[0] > 1 ? (const char *)stack[2] : "guest";
    long kvm, vm, vcpu, size;

    program = "kvm-mini";
    kvm = must("open /dev/kvm", sys_call(SYS_OPEN, (long)"/dev/kvm", O_RDWR, 0, 0));
    fill_guest(name);
    vm = create_vm(kvm);
    vcpu = control("KVM_CREATE_VCPU", vm, KVM_CREATE_VCPU, 0);
    size = control("KVM_GET_VCPU_MMAP_SIZE", kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    set_start(vcpu);
    run_guest(vcpu,
              (const struct kvm_run *)must("mmap", sys_call6(SYS_MMAP, 0, size, PROT_READ_WRITE, MAP_SHARED, vcpu, 0)));
    quit(0);
}
