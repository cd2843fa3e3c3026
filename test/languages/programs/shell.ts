import { rowsOf, type Program } from "./program.ts";

const sh = rowsOf("shell");

export const SHELL: readonly Program[] = [
  sh("output on both streams", "echo out; echo err >&2", { stdout: "out\n", stderr: "err\n" }),
  sh("an exit code", "echo x; exit 4", { status: "failed", exitCode: 4, reason: "exit_code", stdout: "x\n" }),
  sh("the last command's code", "true; false", { status: "failed", exitCode: 1 }),
  sh("a missing command", "echo a\nno_such_command", {
    status: "failed",
    exitCode: 127,
    stdout: "a\n",
    stderr: /main\.sh: line 2: no_such_command: command not found/,
  }),
  sh("a syntax error", "echo a\nif true; then", {
    status: "failed",
    exitCode: 2,
    stderr: /main\.sh: .*line [23]: syntax error/,
  }),
  sh("errexit, nounset, pipefail", "set -euo pipefail\nfalse | true\necho never", {
    status: "failed",
    exitCode: 1,
    stdout: "",
  }),
  sh("an unset variable", 'set -u\necho "$nothing"', {
    status: "failed",
    exitCode: 127,
    stderr: /nothing: unbound variable/,
  }),
  sh("the event", 'echo "$EVENT_JSON"', { stdout: '{"a":"ü","b":[1]}\n' }, { event: { a: "ü", b: [1] } }),
  sh("no event", 'echo "$EVENT_JSON"', { stdout: "null\n" }),
  sh(
    "an event that is too long for the environment",
    "echo ${#EVENT_JSON}; ls / > /dev/null && echo ok",
    { stdout: "300008\nok\n" },
    { event: { s: "e".repeat(300_000) } },
  ),
  sh("its name and arguments", 'echo "$0 $#"', { stdout: "main.sh 0\n" }),
  sh("arrays", "a=(x 'y z' w); a+=(last); declare -A m=([k]=v); echo \"${#a[@]} ${a[1]} ${a[-1]} ${m[k]}\"", {
    stdout: "4 y z last v\n",
  }),
  sh("pipes", "printf 'b\\na\\nb\\n' | sort | uniq -c | awk '{print $2 $1}'", { stdout: "a1\nb2\n" }),
  sh("the state of a pipeline", 'false | true | (exit 3); echo "${PIPESTATUS[@]}"', { stdout: "1 0 3\n" }),
  sh("traps", "trap 'echo bye' EXIT\ntrap 'echo usr1' USR1\nkill -USR1 $$\necho hi", { stdout: "usr1\nhi\nbye\n" }),
  sh("functions and locals", "f() { local x=$1; echo $((x * 2)); return 5; }\nf 4; echo $?", { stdout: "8\n5\n" }),
  sh("here documents", "cat <<EOF\n$((1 + 1)) $HOME\nEOF\ncat <<'EOF'\n$raw\nEOF", { stdout: "2 /workspace\n$raw\n" }),
  sh("process substitution", "diff <(echo a) <(echo b); echo $?", { stdout: /^1c1[\s\S]*1\n$/ }),
  sh("parameter expansion", 's=hello.tar.gz; echo "${s%.*} ${s##*.} ${s^^} ${s:0:2} ${s/tar/zip}"', {
    stdout: "hello.tar gz HELLO.TAR.GZ he hello.zip.gz\n",
  }),
  sh("globs and files", "mkdir -p g && touch g/a.x g/b.x && echo g/*.x && rm -r g", { stdout: "g/a.x g/b.x\n" }),
  sh(
    "standard input",
    'read -r first; echo "first=$first"; wc -c',
    { stdout: /^first=héllo\n\s*6\n$/ },
    { stdin: "héllo\nworld\n" },
  ),
  sh("no standard input", "cat; echo done", { stdout: "done\n" }),
  sh(
    "variables",
    "echo \"$GREETING\"; env | grep -c '^GREETING='",
    { stdout: "grüß dich\n1\n" },
    { env: { GREETING: "grüß dich" } },
  ),
  sh("unicode", "s='漢字é😀'; echo \"${#s} $s\"", { stdout: "4 漢字é😀\n" }),
  sh("bytes that are not UTF-8", "printf 'a\\377b\\n'", { stdout: "a\ufffdb\n" }),
  sh("background jobs are waited for", "(sleep 0.05; echo bg) & echo fg; wait; echo end", { stdout: "fg\nbg\nend\n" }),
  sh("a signal of its own", "kill -TERM $$", { status: "failed", exitCode: 143, reason: "signal" }),
  sh("another program", "python3 -c 'import sys; print(sys.version_info[0])'; bun -e 'console.log(2 + 2)'", {
    stdout: "3\n4\n",
  }),
  sh("its directory", "pwd; cd /tmp; pwd", { stdout: "/workspace\n/tmp\n" }),
  sh(
    "arithmetic and loops",
    "for ((i = 0, s = 0; i < 5; i++)); do ((s += i)); done; echo $s; for w in {a..c}; do printf $w; done",
    { stdout: "10\nabc" },
  ),
  sh(
    "case, test and regular expressions",
    "v=abc123; [[ $v =~ ([a-z]+)([0-9]+) ]] && echo ${BASH_REMATCH[2]}; case $v in abc*) echo yes;; esac",
    { stdout: "123\nyes\n" },
  ),
  sh("quotes and special characters", "echo 'single \"double\" $x' \"tab\\there\" $'nl\\\\n'", {
    stdout: 'single "double" $x tab\\there nl\\n\n',
  }),
  sh("a script of 300 KB", `${"# filler line\n".repeat(22_000)}echo "line $LINENO"\nexit 6\n`, {
    status: "failed",
    exitCode: 6,
    stdout: "line 22001\n",
  }),
  sh("two megabytes of output", "head -c 2000000 /dev/zero | tr '\\0' z", { stdout: "z".repeat(2_000_000) }),
  sh("a timeout", "echo start; sleep 30", { status: "timeout", exitCode: 124, stdout: "start\n" }, { timeout: 1 }),
  sh("an exec'd program", "exec echo replaced", { stdout: "replaced\n" }),
];
