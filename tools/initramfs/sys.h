/*
 * System calls for the little programs of the initramfs archives, which need no C
 * library: static glibc would make them fifty times larger, and GRUB reads every byte
 * of them at emulator speed.
 */
#ifndef INITRAMFS_SYS_H
#define INITRAMFS_SYS_H

enum { SYS_WRITE = 1, SYS_EXIT = 60, SYS_UNAME = 63, SYS_SYSLOG = 103, SYS_REBOOT = 169, SYS_SCHED_GETAFFINITY = 204,
       SYS_IOPERM = 173, SYS_CLOCK_GETTIME = 228 };

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long sys_call(long number, long a, long b, long c, long d)
{
	return sys_call6(number, a, b, c, d, 0, 0);
}

#endif
