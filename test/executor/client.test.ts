import { expect, test } from "bun:test";
import { HttpExecutor } from "../../src/executor/client.ts";
import { FILE_HANDLE } from "../../src/executor/protocol.ts";

test("an executor in a Pod can't have a file of this host read", async () => {
  const headers = { [FILE_HANDLE]: `${import.meta.path} 0 100` };
  using hostile = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("its own", { headers }),
  });
  const executor = new HttpExecutor({ url: `http://127.0.0.1:${hostile.port}`, token: "x" });
  const { body } = await executor.readFile("s", "file", "GET", new Headers());
  expect(await new Response(body).text()).toBe("its own");
});
