import { Type } from "@sinclair/typebox";
import type { Check } from "../executor/protocol.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { jsonAnswer, oneOf, Version } from "./schemas.ts";

/** How the service is. */
export interface Vitals {
  readonly version: string;
  /** Seconds since the start. */
  uptimeS(): number;
  /** Why it takes no work now (starting, draining), or null when it is ready. */
  unready(): string | null;
  /** Real checks of database, objects, executor and isolation. */
  checks(): Promise<Check[]>;
  /** One reconcile pass; what it looked at, by name. */
  sync(): Promise<Record<string, number>>;
}

const Health = {
  status: oneOf(["healthy", "unhealthy"]),
  version: Version,
  uptime: Type.Number({ description: "Seconds.", examples: [86400.5] }),
};

const CheckView = Type.Object(
  {
    name: Type.String({ examples: ["database"] }),
    ok: Type.Boolean({ examples: [true] }),
    found: Type.String({ examples: ["answers within 1 ms"] }),
    remedy: Type.Optional(Type.String({ examples: ["check DATABASE_URL"] })),
  },
  { $id: "Check" },
);

/** Routes of health and operation. */
export function healthEndpoints(vitals: Vitals): Endpoint[] {
  const tag = "operation";
  const about = () => ({ version: vitals.version, uptime: Math.round(vitals.uptimeS() * 1000) / 1000 });

  return [
    endpoint({
      method: "GET",
      path: "/",
      access: "public",
      tag,
      summary: "What this is and where its documents are",
      answers: {
        200: jsonAnswer(
          "Name, version and links.",
          Type.Object({ name: Type.String({ examples: ["sandbox-control-plane"] }), version: Version }),
        ),
      },
      errors: [],
      handle: () => ({
        status: 200,
        json: {
          name: "sandbox-control-plane",
          version: vitals.version,
          docs: "/docs",
          openapi: "/openapi.json",
          health: "/api/v1/health",
        },
      }),
    }),
    endpoint({
      method: "GET",
      path: "/api/v1/health",
      access: "public",
      tag,
      summary: "Whether it answers",
      answers: { 200: jsonAnswer("It does.", Type.Object(Health)) },
      errors: [],
      handle: () => ({ status: 200, json: { status: "healthy", ...about() } }),
    }),
    endpoint({
      method: "GET",
      path: "/healthz",
      access: "public",
      tag,
      summary: "Liveness probe",
      answers: { 200: jsonAnswer("It lives.", Type.Object({ status: Type.Literal("alive") })) },
      errors: [],
      handle: () => ({ status: 200, json: { status: "alive" } }),
    }),
    endpoint({
      method: "GET",
      path: "/readyz",
      access: "public",
      tag,
      summary: "Readiness probe",
      answers: {
        200: jsonAnswer("It takes work.", Type.Object({ status: Type.Literal("ready") })),
        503: jsonAnswer(
          "It starts or drains.",
          Type.Object({ status: Type.Literal("unready"), reason: Type.String({ examples: ["draining"] }) }),
        ),
      },
      errors: [],
      handle() {
        const reason = vitals.unready();
        if (reason === null) return { status: 200, json: { status: "ready" } };
        return { status: 503, json: { status: "unready", reason }, headers: { "Retry-After": "1" } };
      },
    }),
    endpoint({
      method: "GET",
      path: "/api/v1/health/detailed",
      access: "monitor",
      tag,
      summary: "Checks of database, objects, executor and isolation",
      answers: {
        200: jsonAnswer("Every check passed.", Type.Object({ ...Health, checks: Type.Array(CheckView) })),
        503: jsonAnswer("A check failed.", Type.Object({ ...Health, checks: Type.Array(CheckView) })),
      },
      errors: [],
      async handle() {
        const checks = await vitals.checks();
        const isHealthy = checks.every((check) => check.ok);
        return {
          status: isHealthy ? 200 : 503,
          json: { status: isHealthy ? "healthy" : "unhealthy", ...about(), checks },
          ...(isHealthy ? {} : { headers: { "Retry-After": "1" } }),
        };
      },
    }),
    endpoint({
      method: "POST",
      path: "/api/v1/health/sync",
      tag,
      summary: "Run one reconcile pass now",
      answers: { 200: jsonAnswer("It is done.", Type.Object({ status: Type.Literal("completed") })) },
      errors: ["executor_unavailable", "store_unavailable"],
      async handle(call) {
        call.keepOpen();
        return { status: 200, json: { status: "completed", ...(await vitals.sync()) } };
      },
    }),
  ];
}
