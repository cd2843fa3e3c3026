import { describe, expect, test } from "bun:test";
import { EXECUTABLE } from "./server.ts";

describe.each(["", "serve", "run", "doctor", "keys", "images", "backup", "restore", "executor", "openapi"])(
  "sandbox %s",
  (command) => {
    const call = (option: string) => Bun.spawnSync([EXECUTABLE, ...(command === "" ? [] : [command]), option]);

    test("--help says what it does and how it is called", () => {
      const { exitCode, stdout, stderr } = call("--help");
      expect([exitCode, stderr.toString()]).toEqual([0, ""]);
      expect(stdout.toString().toLowerCase()).toContain("usage:");
      expect(stdout.toString()).toContain(`sandbox ${command}`.trim());
    });

    test("--version says the version", () => {
      const { exitCode, stdout, stderr } = call("--version");
      expect([exitCode, stderr.toString()]).toEqual([0, ""]);
      expect(stdout.toString()).toMatch(/^sandbox \d+\.\d+\.\d+/);
    });
  },
);
