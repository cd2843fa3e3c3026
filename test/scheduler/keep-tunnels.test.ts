import { afterEach, beforeEach, expect, test } from "bun:test";
import { systemClock } from "../../src/clock.ts";
import { AppError } from "../../src/errors.ts";
import type { EgressDecision } from "../../src/executor/protocol.ts";
import { createLog } from "../../src/log.ts";
import type { OpenTunnel, Provisioner } from "../../src/provisioners/provisioner.ts";
import { TunnelKeeper } from "../../src/scheduler/keep-tunnels.ts";
import type { AuditStore } from "../../src/sessions/audit.ts";
import type { Session } from "../../src/sessions/session.ts";
import { SqlAuditStore } from "../../src/stores/audit-store.ts";
import { SqlSessionStore } from "../../src/stores/session-store.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { SqlTemplateStore } from "../../src/stores/template-store.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { sessionRecord, templateRecord } from "../contracts/records.ts";

const LOG = createLog({ level: "error", format: "text", write: () => {} });
const NETWORK = ["example.com"];
const DECISION: EgressDecision = {
  at: "2026-01-01T00:00:00.000Z",
  method: "CONNECT",
  host: "example.com",
  port: 443,
  address: null,
  allowed: false,
  reason: "r",
};

/** A tunnel that says what became of it. */
class Opened implements OpenTunnel {
  readonly #end = Promise.withResolvers<string>();
  readonly closed = this.#end.promise;
  readonly decided: (decision: EgressDecision) => void;
  isClosed = false;

  constructor(decided: (decision: EgressDecision) => void) {
    this.decided = decided;
  }

  close(): void {
    this.isClosed = true;
    this.#end.resolve("closed");
  }
}

let sql: Sql;
let sessions: SqlSessionStore;
let opened: { owner: string; id: string; tunnel: Opened }[];

beforeEach(async () => {
  sql = openSqlite(":memory:");
  sessions = new SqlSessionStore(sql);
  opened = [];
  unlucky = null;
  await new SqlTemplateStore(sql).insert(templateRecord());
});
afterEach(() => sql.close());

let unlucky: string | null;

function keeper(owner: string, audit: AuditStore = new SqlAuditStore(sql)): TunnelKeeper {
  const openTunnel = (session: Session, decided: (decision: EgressDecision) => void): Promise<OpenTunnel> => {
    if (owner === unlucky) return Promise.reject(new AppError("executor_unavailable", "out of reach"));
    const tunnel = new Opened(decided);
    opened.push({ owner, id: session.id, tunnel });
    return Promise.resolve(tunnel);
  };
  const provisioner = { openTunnel } as unknown as Provisioner;
  return new TunnelKeeper({ sessions, provisioner, audit, clock: systemClock, log: LOG, owner, leaseMs: 15_000 });
}

async function running(id: string, fields: Partial<Session> = {}): Promise<Session> {
  const session = sessionRecord({ id, status: "running", network: NETWORK, ...fields });
  await sessions.insert(session);
  return session;
}

const names = (): string[] => opened.map(({ owner, id }) => `${owner} ${id}`);

test("each running session that may connect has one tunnel, whoever looks", async () => {
  const [a, b] = [keeper("a"), keeper("b")];
  await a.hold(await running("one"));
  await running("two");
  await running("mute", { network: [] });
  await running("new", { status: "creating" });
  await Promise.all([a.resync(), b.resync()]);
  await Promise.all([a.resync(), b.resync()]);
  expect(
    names()
      .map((name) => name.slice(2))
      .toSorted(),
  ).toEqual(["one", "two"]);
  expect(names()[0]).toBe("a one");
  expect(opened.some(({ tunnel }) => tunnel.isClosed)).toBe(false);
});

test("one that broke is opened again, and one whose session has ended is closed", async () => {
  const a = keeper("a");
  await a.hold(await running("one"));
  opened[0]?.tunnel.close();
  await Bun.sleep(0);
  await a.resync();
  expect(names()).toEqual(["a one", "a one"]);
  await sessions.update("one", { status: "terminated" });
  await a.resync();
  expect(opened[1]?.tunnel.isClosed).toBe(true);
});

test("another takes over when the holder has let go, and what it holds no more it closes", async () => {
  const [a, b] = [keeper("a"), keeper("b")];
  await a.hold(await running("one"));
  await b.resync();
  expect(names()).toEqual(["a one"]);
  // As when its lease has run out.
  await sessions.releaseAll("a");
  await b.resync();
  expect(names()).toEqual(["a one", "b one"]);
  await a.resync();
  expect(opened.map(({ tunnel }) => tunnel.isClosed)).toEqual([true, false]);
});

test("who can't open it leaves it to another", async () => {
  unlucky = "a";
  const [a, b] = [keeper("a"), keeper("b")];
  await a.hold(await running("one"));
  await b.resync();
  await a.resync();
  expect(names()).toEqual(["b one"]);
});

test("a tunnel is not opened twice at once", async () => {
  const a = keeper("a");
  const session = await running("one");
  await Promise.all([a.hold(session), a.hold(session), a.resync()]);
  expect(names()).toEqual(["a one"]);
});

test("what is decided is stored in order, also when the store is away for a while", async () => {
  const store = new SqlAuditStore(sql);
  let failures = 1;
  const audit: AuditStore = {
    add: (id, decision) => {
      if (failures-- > 0) return Promise.reject(new AppError("store_unavailable", "away"));
      return store.add(id, decision);
    },
    list: (id) => store.list(id),
  };
  const a = keeper("a", audit);
  await a.hold(await running("one"));
  for (const port of [1, 2, 3]) opened[0]?.tunnel.decided({ ...DECISION, port });
  while ((await store.list("one")).length < 3) await Bun.sleep(10);
  expect((await store.list("one")).map(({ port }) => port)).toEqual([3, 2, 1]);
  await a.stop();
});

test("stopping closes all, and waits for what was decided", async () => {
  const a = keeper("a");
  await a.hold(await running("one"));
  opened[0]?.tunnel.decided(DECISION);
  await a.stop();
  expect(opened[0]?.tunnel.isClosed).toBe(true);
  expect(await new SqlAuditStore(sql).list("one")).toEqual([DECISION]);
  await a.hold(await running("two"));
  expect(names()).toEqual(["a one"]);
});
