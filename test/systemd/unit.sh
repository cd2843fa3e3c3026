#!/bin/bash
# Installs the service as the README says, on a machine that runs systemd and may be changed, and sees what the unit promises.
set -eu -o pipefail
fail() { echo "FAIL: $*"; systemctl status sandbox sandbox-executor --no-pager --lines=0 || true; tail -n 20 /run/sandbox.log /run/sandbox-executor.log /var/lib/sandbox/executor/log; exit 1; }
ok() { echo "ok: $* ($SECONDS s)"; }
url=http://127.0.0.1:8000
call() { curl -sS --fail-with-body --max-time 60 -H 'Content-Type: application/json' "$@"; }
value() { grep -o "\"$1\":\"\?[^\",}]*" | head -1 | sed 's/^[^:]*:"\?//'; }
# A machine may be slow; nothing here is about speed.
until_true() {
  local end=$((SECONDS + 90))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "never: $*"
    sleep 0.3
  done
}
is_ready() { call $url/readyz; }
main_pid() { systemctl show sandbox --property=MainPID --value; }
run_python() { call "$url/api/v1/sessions/$1/executions?wait=50" -d "{\"language\":\"python\",\"timeout\":120,\"code\":\"$2\"}"; }

sed -n '/^### As a service/,/^##/p' README.md | sed -n '/^```sh$/,/^```$/p' | sed '/^```/d' >/run/install.sh
grep -q 'systemctl enable --now sandbox-executor sandbox' /run/install.sh || fail "the README has no commands"
for unit in sandbox sandbox-executor; do
  mkdir -p /etc/systemd/system/$unit.service.d
  printf '[Service]\nStandardOutput=append:/run/%s.log\nStandardError=inherit\n' $unit >/etc/systemd/system/$unit.service.d/log.conf
done
bash -eu /run/install.sh
ok "installed"
until_true is_ready
ok "ready"

pid=$(main_pid)
[ "$(stat -c %U /proc/"$pid")" = sandbox ] || fail "it runs as $(stat -c %U /proc/"$pid")"
[ "$(stat -c '%U %a' /var/lib/sandbox)" = "sandbox 711" ] || fail "the data directory is $(stat -c '%U %a' /var/lib/sandbox)"
grep -q '^CapBnd:\s*0000000000000000$' /proc/"$pid"/status || fail "it has capabilities to bound"
ok "runs as its own user"

session=$(call "$url/api/v1/sessions?wait=60" -d '{"template_id":"python-basic","memory":"128Mi"}' | value id)
run_python "$session" "print(6 * 7)" | grep -q '"stdout":"42\\n"' || fail "Python does not run"
call "$url/api/v1/sessions/$session/executions?wait=50" -d '{"language":"javascript","code":"console.log(6 * 7)"}' |
  grep -q '"stdout":"42\\n"' || fail "JavaScript does not run"
health=$(call $url/api/v1/health/detailed) || fail "it is not well: $health"
for limit in memory process CPU; do
  grep -q "\"name\":\"$limit limit\",\"ok\":true,\"found\":\"control group, version 2" <<<"$health" || fail "no $limit limit: $health"
done
ok "code runs under control groups"
run_python "$session" "b = bytearray(400 << 20)" | grep -q '"reason":"memory_limit"' || fail "the memory limit does not hold"
[ "$(main_pid)" = "$pid" ] || fail "the service was ended with a sandbox that ran out of memory"
ok "a sandbox that runs out of memory ends alone"

executor=$(cat /var/lib/sandbox/executor/pid)
code='import time\nfor i in range(30):\n  print(i, flush=True)\n  time.sleep(1)'
execution=$(call "$url/api/v1/sessions/$session/executions" -d "{\"language\":\"python\",\"timeout\":600,\"code\":\"$code\"}" | value id)
is_running() { call "$url/api/v1/executions/$execution" | grep -q '"status":"running"'; }
until_true is_running
install -m 755 dist/sandbox /usr/local/bin/sandbox
systemctl restart sandbox
until_true is_ready
[ "$(main_pid)" != "$pid" ] || fail "it was not restarted"
[ "$(cat /var/lib/sandbox/executor/pid)" = "$executor" ] && [ -d /proc/"$executor" ] || fail "the executor did not live on"
is_running || fail "the execution did not go on"
ok "upgraded and restarted with an execution that runs"
has_ended() { call "$url/api/v1/executions/$execution" | grep -q '"status":"completed"'; }
until_true has_ended
expected=$(seq -s '\\n' 0 29)
call "$url/api/v1/executions/$execution" | grep -qF "\"stdout\":\"${expected//\\\\/\\}\\n\"" || fail "its output is not whole"
ok "the execution ended with its whole output"
run_python "$session" "import tempfile; print(len(tempfile.mkdtemp()) > 0)" | grep -q '"stdout":"True\\n"' || fail "the session is of no use"
other=$(call "$url/api/v1/sessions?wait=60" -d '{"template_id":"python-basic"}' | value id)
run_python "$other" "print(1)" | grep -q '"stdout":"1\\n"' || fail "no new session after the restart"
ok "old and new sessions work"

kill -KILL "$(main_pid)"
until_true is_ready
[ -d /proc/"$executor" ] || fail "the executor ended with the control plane"
kill -KILL "$executor"
runs_again() { run_python "$session" "print(2)" | grep -q '"stdout":"2\\n"'; }
until_true runs_again
ok "each started again after a crash"

executor=$(cat /var/lib/sandbox/executor/pid)
systemctl stop sandbox
[ -d /proc/"$executor" ] || fail "stop ended the executor"
systemctl stop sandbox-executor
[ -z "$(pgrep -u sandbox || true)" ] || fail "something runs on: $(pgrep -u sandbox -a)"
[ ! -e /sys/fs/cgroup/system.slice/sandbox-executor.service ] || fail "control groups are left"
ok "stopped, and ended with all that ran"
echo "ALL OK"
