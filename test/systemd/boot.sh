#!/bin/bash
# Boots systemd as process 1 of a PID namespace and has it run a script as its only job, whose exit code is this one's. For a
# machine that may be changed, such as the lab's:
#
#   /work/shared/lab/vm -t 560 -m 4096 -C . bash test/systemd/boot.sh test/systemd/unit.sh
set -eu
here=$PWD
script=$(realpath "$1")
units=/run/systemd/system
mkdir -p $units
cat >$units/the-test.service <<UNIT
[Unit]
After=basic.target
Requires=basic.target
FailureAction=exit-force
SuccessAction=exit-force
[Service]
Type=oneshot
Environment=PATH=$PATH HOME=/root
WorkingDirectory=$here
ExecStart=/bin/bash $script
StandardOutput=append:/run/the-test.log
StandardError=inherit
TimeoutStartSec=infinity
UNIT
# What a real machine would start besides is of no use here.
for unit in systemd-udevd systemd-udev-trigger systemd-binfmt systemd-hwdb-update ldconfig systemd-journal-catalog-update \
  systemd-update-done systemd-update-utmp systemd-timesyncd systemd-networkd systemd-resolved systemd-firstboot \
  systemd-sysusers keyboard-setup console-setup apparmor dbus; do
  ln -sf /dev/null $units/$unit.service
done
touch /run/the-test.log
tail -f /run/the-test.log &
follower=$!
code=0
unshare --pid --fork --kill-child --mount --mount-proc env -i container=test PATH="$PATH" \
  /lib/systemd/systemd --system --unit=the-test.service --log-target=console --log-level=warning --show-status=no || code=$?
sleep 1
kill $follower
exit $code
