#!/bin/bash
# Runs the jail's tests on a machine with control groups of version 2 only, as root and as a user to whom a group is
# delegated. On a machine with version 1: /work/shared/lab/vm -t 560 -C . bash test/executor/jail/cgroup-v2.sh
set -eu
root=/sys/fs/cgroup
suites="test/executor/jail/limits.test.ts test/executor/jail/lifecycle.test.ts"
test=(bun test --timeout 200000 -t "held by control groups|leaves no|outrun|killed" $suites)
as_user=(setpriv --reuid 54321 --regid 54321 --clear-groups env HOME=/tmp)

"${test[@]}"
rmdir "$root"/sandbox-*/* "$root"/sandbox-* 2>/dev/null || true

echo '+memory +pids +cpu' > $root/cgroup.subtree_control
mkdir $root/delegated
chown -R 54321 $root/delegated
echo $$ > $root/delegated/cgroup.procs
"${as_user[@]}" "${test[@]}"
grep -q delegated/service /proc/$$/cgroup
