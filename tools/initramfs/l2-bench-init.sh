#!/bin/sh
# L2's init where Linux is measured: says how many ticks of the TSC each part of a fixed piece of work took. The TSC of
# a guest of KVM counts from the start of its virtual processor.

LEVEL=L2 # for fail()
. /lib.sh

now() {
	ticks | cut -d ' ' -f 1
}

# say_ticks KEY START
say_ticks() {
	echo "macro: $1 $(($(now) - $2))"
}

start_programs() {
	i=0
	while [ $i -lt 200 ]; do
		/bin/busybox true
		i=$((i + 1))
	done
}

compress_sample() {
	gzip -c /sample >/dev/null
}

# A line there and a line back, $1 times, between two shells; with two processors each has its own, so that each line
# wakes the other processor by an interrupt.
play_ping_pong() {
	mkfifo /there /back
	while read -r line; do echo "$line"; done </there >/back &
	[ "$processors" = 1 ] || { taskset -p 2 $! && taskset -p 1 $$; } >/dev/null || fail "no processor of its own"
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

# Reads of 4 KiB, one after the other, that no cache serves: a notification of the device and an interrupt for each.
read_disk() {
	dd if=/dev/vda of=/dev/null bs=4k count=500 iflag=direct 2>/dev/null || fail "the disk cannot be read"
}

# measure KEY COMMAND...
measure() {
	key=$1
	shift
	start=$(now)
	"$@"
	say_ticks "$key" "$start"
}

boot=$(now)
echo "macro: boot $boot"
processors=$(nproc)
if [ "$processors" = 1 ]; then
	measure fork-exec start_programs
	measure gzip compress_sample
	measure pipe play_ping_pong 500
	mkdir -p /dev /proc
	mount -t devtmpfs dev /dev
	mount -t proc proc /proc
	load_modules order
	measure disk read_disk
else
	measure ipi play_ping_pong 200
fi
echo "L2: hello from init on Linux $(uname -r)"
poweroff -f
