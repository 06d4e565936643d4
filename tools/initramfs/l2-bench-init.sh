#!/bin/sh
# L2's init where Linux is measured: says how many ticks of the TSC each part of a fixed piece of work took. The TSC of
# a guest of KVM counts from the start of its virtual processor.

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

# A line there and a line back, between two shells.
play_ping_pong() {
	mkfifo /there /back
	while read -r line; do echo "$line"; done </there >/back &
	exec 3>/there 4</back
	i=0
	while [ $i -lt 500 ]; do
		echo ping >&3
		read -r line <&4
		i=$((i + 1))
	done
	exec 3>&- 4<&-
	wait
}

boot=$(now)
echo "macro: boot $boot"
start=$(now)
start_programs
say_ticks fork-exec "$start"
start=$(now)
gzip -c /sample >/dev/null
say_ticks gzip "$start"
start=$(now)
play_ping_pong
say_ticks pipe "$start"
echo "L2: hello from init on Linux $(uname -r)"
poweroff -f
