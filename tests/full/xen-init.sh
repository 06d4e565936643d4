#!/bin/sh
# init of dom0: starts Xen's daemons, has xl run one PVH guest, and powers off. The guest's console goes to a file,
# which is shown when the guest has ended.
# A failure is told to the debug-exit port before the power-off.

LEVEL=dom0 # for say()
. /lib.sh

CONSOLE=/var/log/xen/console/guest-L2.log

wait_for() {
	turns=100
	while [ ! -e "$1" ]; do
		turns=$((turns - 1))
		[ "$turns" -gt 0 ] || fail "$1 does not appear"
		sleep 0.1
	done
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run/xen /run/xenstored /run/lock /var/lib/xen /var/lib/xenstored /var/lib/xen/xenstore \
	/var/log/xen/console /var/lock
mount -t devpts devpts /dev/pts
say "hello from init on Linux $(cat /proc/sys/kernel/osrelease)"
for name in xen_evtchn xen_gntdev xenfs; do
	load_modules $name.order
done
mount -t xenfs xenfs /proc/xen
xenstored || fail "xenstored does not start"
wait_for /run/xenstored/socket
xen-init-dom0 || fail "dom0 cannot be entered in xenstore"
xenconsoled --log=guest --log-dir=/var/log/xen/console || fail "xenconsoled does not start"
say "xl creates L2"
xl create -F /l2.cfg
status=$?
while IFS= read -r line; do
	echo "L2| $line"
done <$CONSOLE
[ "$status" = 0 ] || fail "xl ends with status $status"
say "L2 is done"
finish 0
