import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { AllowList } from "../../../src/executor/egress/allow-list.ts";
import { EgressProxy } from "../../../src/executor/egress/proxy.ts";

// Where the only name server of the system never answers: has a proxy look up many names, and says whether a file can be
// read meanwhile.
const server = createSocket("udp4").bind(53, "127.0.0.9");
await once(server, "listening");
const proxy = new EgressProxy({ allow: new AllowList(["*.silent.example"]), decided: () => {} });
const path = `/tmp/silent-name-server-${process.pid}`;
await proxy.listen(path);
const asked = once(server, "message");
for (let i = 0; i < 60; i++) connect(path).write(`CONNECT n${i}.silent.example:80 HTTP/1.1\r\n\r\n`);
await asked;
await Bun.sleep(50);
const isRead = await Promise.race([readFile("/etc/hostname").then(() => true), Bun.sleep(3000).then(() => false)]);
process.stdout.write(isRead ? "read\n" : "held up\n");
await proxy.close();
process.exit(0);
