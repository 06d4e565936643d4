/* L2's init: says on which kernel it runs, and powers the machine off. */
#include "sys.h"

struct utsname {
	char sysname[65];
	char nodename[65];
	char release[65];
	char version[65];
	char machine[65];
	char domainname[65];
};

static char line[256];
static unsigned int length;

static void append(const char *text)
{
	while (*text && length < sizeof(line))
		line[length++] = *text++;
}

/* The processors that a process may run on: all that are up. */
static unsigned int count_processors(void)
{
	static unsigned long mask[16];
	unsigned int count = 0;

	sys_call(SYS_SCHED_GETAFFINITY, 0, sizeof(mask), (long)mask, 0);
	for (unsigned int i = 0; i < 8 * sizeof(mask); i++)
		count += mask[i / 64] >> i % 64 & 1;
	return count;
}

void _start(void)
{
	static struct utsname name;
	char processors[] = {(char)('0' + count_processors()), 0};

	sys_call(SYS_UNAME, (long)&name, 0, 0, 0);
	/* No message of the kernel's comes between the letters: syslog(2), the console's level, emergencies alone. */
	sys_call(SYS_SYSLOG, 8, 0, 1, 0);
	append("L2: hello from init on ");
	append(name.sysname);
	append(" ");
	append(name.release);
	append(" ");
	append(name.machine);
	append(", processors: ");
	append(processors);
	append("\n");
	sys_call(SYS_WRITE, 1, (long)line, length, 0);
	/* The two magic numbers and the power-off command of reboot(2). */
	sys_call(SYS_REBOOT, 0xfee1dead, 672274793, 0x4321fedc, 0);
	sys_call(SYS_EXIT, 1, 0, 0, 0);
	__builtin_unreachable();
}
