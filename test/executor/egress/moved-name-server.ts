import { createSocket } from "node:dgram";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { addressesOf } from "../../../src/executor/egress/resolve.ts";

/** A name server whose every answer is this address of IPv4. */
async function serve(at: string, answer: readonly number[]): Promise<void> {
  const server = createSocket("udp4").bind(53, at);
  await once(server, "listening");
  server.on("message", (query: Buffer, { port, address }) => {
    let end = 12;
    while ((query[end] ?? 0) > 0) end += (query[end] ?? 0) + 1;
    const isV4 = query.readUInt16BE(end + 1) === 1;
    const head = Buffer.from(query.subarray(0, end + 5));
    for (const [i, word] of [0x8180, 1, isV4 ? 1 : 0, 0, 0].entries()) head.writeUInt16BE(word, 2 + 2 * i);
    const record = isV4 ? [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...answer] : [];
    server.send(Buffer.concat([head, Buffer.from(record)]), port, address);
  });
}

// Says the addresses of a name before and after the system was given another name server.
await serve("127.0.0.8", [8, 8, 8, 8]);
await serve("127.0.0.9", [9, 9, 9, 9]);
const before = await addressesOf("name.example");
writeFileSync("/etc/resolv.conf", "nameserver 127.0.0.8\n");
const after = await addressesOf("name.example");
process.stdout.write(`${before.join(" ")}, ${after.join(" ")}\n`);
process.exit(0);
