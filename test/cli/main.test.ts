import { describe, expect, test } from "bun:test";
import { version } from "../../package.json";
import { command, startUnread } from "./command.ts";

const COMMANDS = ["serve", "run", "doctor", "keys", "images", "backup", "restore", "openapi", "executor"];

describe("help and version", () => {
  test("--version names the release and the commit", async () => {
    const { code, stdout } = await command(["--version"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^sandbox ${RegExp.escape(version)}(\\+[0-9a-f]+(-dirty)?)?\n$`));
  });

  test("version and -V do the same", async () => {
    const { stdout } = await command(["--version"]);
    for (const word of ["version", "-V"]) expect(await command([word])).toMatchObject({ code: 0, stdout, stderr: "" });
  });

  test("a setting that is true by itself says how it is turned off", async () => {
    expect((await command(["serve", "--help"])).stdout).toContain("  --executor-linger[=true|false]\n");
  });

  test("--help lists every command", async () => {
    const { code, stdout } = await command(["--help"]);
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout).toContain(`\n  ${name} `);
  });

  test.each(COMMANDS)("%s has help of its own, asked for in three ways", async (name) => {
    const texts = [];
    for (const args of [
      [name, "--help"],
      [name, "-h"],
      ["help", name],
    ]) {
      const { code, stdout, stderr } = await command(args);
      expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: "" });
      texts.push(stdout);
    }
    expect(texts[0]).toContain(`sandbox ${name}`);
    expect(new Set(texts).size).toBe(1);
  });

  test("without a command it says how to use it, on stderr", async () => {
    const { code, stdout, stderr } = await command([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("Usage: sandbox COMMAND");
  });
});

describe("what was typed wrongly ends with 2 and one line that says what to do", () => {
  test.each([
    [["nope"], "sandbox --help"],
    [["constructor"], "sandbox --help"],
    [["serve", "extra"], "sandbox serve --help"],
    [["serve", "--port", "many"], "allowed is"],
    [["serve", "--port"], "needs a value"],
    [["run", "--nope", "x"], "sandbox run --help"],
    [["run", "/nowhere/x.py"], "is not there"],
    [["run", "/tmp"], "is a directory"],
    [["run", "a", "b"], "one FILE"],
    [["run", "--language", "cobol", "x"], "python, javascript"],
    [["run", "--timeout", "0", "x"], "1 to 3600"],
    [["run", "--event", "{", "x"], "JSON"],
    [["run", "--env", "X", "x"], "NAME=VALUE"],
    [["run", "--env", "1X=y", "x"], "NAME=VALUE"],
    [["run", "--env", "LD_PRELOAD=y", "x"], "LD_*"],
    [["run", "--download", "../x", "x"], "in the workspace"],
    [["run", "--download", "/etc/passwd", "x"], "in the workspace"],
    [["keys", "create"], "needs the NAME"],
    [["keys", "list", "--data-dir", "/tmp/sandbox-none"], "has no records"],
    [["backup", "records.zip", "--data-dir", "/tmp"], ".tar.gz"],
    [["run", "--server", "localhost:8000", "x"], "http://"],
    [["run", "--keep", "x"], "--server"],
    [["run", "--session", "s", "x"], "--server"],
    [["run", "--server", "http://h", "--session", "s", "--template", "t", "x"], "--template"],
    [["doctor", "--nope"], "sandbox doctor --help"],
    [["openapi", "x"], "sandbox openapi --help"],
  ])("%p", async (args, hint) => {
    const { code, stdout, lines } = await command(args);
    expect({ code, stdout, lines: lines.length }).toEqual({ code: 2, stdout: "", lines: 1 });
    expect(lines[0]).toStartWith("sandbox");
    expect(lines[0]).toContain(hint);
  });
});

describe("openapi", () => {
  test("prints a whole document also into a pipe that is slower than it", async () => {
    const child = startUnread(["openapi"]);
    const { openapi, paths } = JSON.parse(await new Response(child.stdout).text()) as {
      openapi: string;
      paths: object;
    };
    expect(openapi).toStartWith("3.1");
    expect(Object.keys(paths)).toContain("/api/v1/sessions/{session_id}/executions");
  });

  test("ends quietly when its reader leaves", async () => {
    const child = startUnread(["openapi"]);
    await child.stdout.cancel();
    expect(await new Response(child.stderr).text()).toBe("");
    expect(await child.exited).toBe(0);
  });
});
