#!/bin/sh
# L2's init in tests/full/apicv.t, on two processors: lines go to and fro between two shells, each on a processor of its
# own, so that each line wakes the other one by an IPI. Says how many IPIs the kernel took on each processor, by their
# rows in /proc/interrupts, and powers off.

LEVEL=L2 # for say() and fail()
. /lib.sh

play_ping_pong() {
	mkfifo /there /back
	while read -r line; do echo "$line"; done </there >/back &
	{ taskset -p 2 $! && taskset -p 1 $$; } >/dev/null || fail "no processor of its own"
	exec 3>/there 4</back
	i=0
	while [ $i -lt "$1" ]; do
		echo ping >&3
		read -r line <&4
		i=$((i + 1))
	done
	exec 3>&- 4<&-
	wait
}

mkdir -p /proc
mount -t proc proc /proc
say "hello from init on $(uname -r), processors: $(nproc)"
play_ping_pong 300
# Rescheduling, function calls (TLB flushes among them), and what a processor sends to itself.
sed -n 's/^ *\(RES\|CAL\|IWI\): *\([0-9]*\) *\([0-9]*\).*/L2: IPIs \1: \2 and \3/p' /proc/interrupts
poweroff -f
