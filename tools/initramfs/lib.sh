# shellcheck shell=sh
# What the init scripts of the initramfs archives share. LEVEL says who speaks.

say() {
	echo "$LEVEL: $*"
}

# The port write ends the run with that status where somebody listens to it; without one the power-off does.
finish() {
	say "power-off"
	[ "$1" = 0 ] || port-write 0xf4 "$1"
	poweroff -f
}

fail() {
	say "FAILED: $*"
	finish 1
}

# The words of the kernel command line that belong to module $1, without the prefix.
module_args() {
	# shellcheck disable=SC2013 # words, not lines
	for word in $(cat /proc/cmdline); do
		case $word in
		"$1".*) echo "${word#"$1".}" ;;
		esac
	done
}

# The modules of the list $1.
load_modules() {
	while read -r module; do
		name=$(echo "${module%.ko}" | tr - _)
		# shellcheck disable=SC2046 # a list of words
		insmod "/lib/modules/$module" $(module_args "$name") || fail "cannot load $module"
	done <"/lib/modules/$1"
}

# /proc and /sys are mounted.
load_kvm() {
	load_modules order
	cd /sys/module/kvm_intel/parameters || fail "kvm_intel is not there"
	say "kvm_intel loaded: ept=$(cat ept) unrestricted_guest=$(cat unrestricted_guest) vpid=$(cat vpid)"
	cd /
}
