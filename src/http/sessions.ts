import { Type } from "@sinclair/typebox";
import { SESSION_STATUSES } from "../sessions/session.ts";
import type { Sessions } from "../sessions/sessions.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import {
  BODY_ERRORS,
  EnvVars,
  Instant,
  jsonAnswer,
  Network,
  oneOf,
  orNull,
  PageOf,
  pageOf,
  PageQuery,
  pageReply,
} from "./schemas.ts";
import { SessionView, shapeSession } from "./session-view.ts";

const MAX_WAIT_S = 60;

const Dependency = Type.Object(
  {
    name: Type.String({
      pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(\\[[A-Za-z0-9._-]+(, *[A-Za-z0-9._-]+)*\\])?$",
      maxLength: 200,
      examples: ["requests", "uvicorn[standard]"],
    }),
    version: Type.Optional(
      Type.String({
        pattern:
          "^(===|==|~=|!=|<=|>=|<|>)? *[A-Za-z0-9][A-Za-z0-9.*+!_-]*( *, *(===|==|~=|!=|<=|>=|<|>) *[A-Za-z0-9][A-Za-z0-9.*+!_-]*)*$",
        maxLength: 100,
        description: "Without an operator it means ==.",
        examples: ["2.32.3", ">=2,<3"],
      }),
    ),
  },
  { $id: "Dependency" },
);

const PackageIndexUrl = Type.String({ pattern: "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s]+$", maxLength: 512 });
const Decision = Type.Object(
  {
    at: Instant,
    method: Type.String({ examples: ["CONNECT"] }),
    host: Type.String({ examples: ["pypi.org"] }),
    port: Type.Integer({ examples: [443] }),
    address: orNull(Type.String(), "151.101.0.223"),
    allowed: Type.Boolean({ examples: [true] }),
    reason: Type.String({ examples: ["listed name"] }),
  },
  { $id: "EgressDecision" },
);
const InstallTimeout = Type.Integer({ minimum: 30, maximum: 1800, default: 300, description: "Seconds." });

/** Routes of sessions. `maxTimeoutS` bounds the timeout that a session may ask for. */
export function sessionEndpoints(sessions: Sessions, maxTimeoutS: number): Endpoint[] {
  const timeout = Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: maxTimeoutS,
      description: "Seconds without use after which the session ends; never while an execution runs.",
    }),
  );
  const tag = "sessions";
  const one = jsonAnswer("The session.", SessionView);

  const create = endpoint({
    method: "POST",
    path: "/api/v1/sessions",
    tag,
    summary: "Open a session",
    query: Type.Object({
      wait: Type.Optional(
        Type.Number({
          minimum: 0,
          maximum: MAX_WAIT_S,
          default: 0,
          description: "Seconds to wait until the session runs or has failed.",
        }),
      ),
    }),
    body: Type.Object(
      {
        id: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })),
        template_id: Type.String({ examples: ["python-basic"] }),
        timeout,
        cpu: Type.Optional(Type.Union([Type.String(), Type.Number()], { examples: ["1", 0.5] })),
        memory: Type.Optional(Type.String({ examples: ["512Mi"] })),
        disk: Type.Optional(Type.String({ examples: ["1Gi"] })),
        env_vars: Type.Optional(EnvVars),
        dependencies: Type.Optional(Type.Array(Dependency, { maxItems: 50 })),
        install_timeout: Type.Optional(InstallTimeout),
        fail_on_dependency_error: Type.Optional(Type.Boolean({ default: true })),
        python_package_index_url: Type.Optional(PackageIndexUrl),
        network: Type.Optional(Network),
      },
      { $id: "SessionInput", examples: [{ template_id: "python-basic", timeout: 600, env_vars: { REGION: "eu-1" } }] },
    ),
    answers: { 201: { ...one, description: "The session; it may still be creating." } },
    errors: [
      ...BODY_ERRORS,
      "template_unknown",
      "image_unknown",
      "invalid_size",
      "invalid_environment",
      "session_exists",
      "session_limit",
      "executor_unavailable",
    ],
    async handle(call) {
      const waitMs = (call.query.wait ?? 0) * 1000;
      if (waitMs > 0) call.keepOpen();
      const wait = waitMs > 0 ? { waitMs, signal: call.signal } : undefined;
      const { session, timing } = await sessions.create(call.tenant, call.body, wait);
      const headers = { Location: `/api/v1/sessions/${session.id}` };
      return { status: 201, json: shapeSession(session), headers, timing };
    },
  });

  const list = endpoint({
    method: "GET",
    path: "/api/v1/sessions",
    tag,
    summary: "List sessions, newest first",
    query: Type.Object({
      status: Type.Optional(oneOf(SESSION_STATUSES)),
      template_id: Type.Optional(Type.String()),
      ...PageQuery,
    }),
    answers: { 200: jsonAnswer("A page of sessions.", PageOf(SessionView)) },
    errors: ["validation_failed"],
    async handle({ tenant, query }) {
      const page = pageOf(query);
      const { items, total } = await sessions.list(
        tenant,
        { status: query.status, template_id: query.template_id },
        page,
      );
      return { status: 200, json: pageReply({ items: items.map(shapeSession), total }, page) };
    },
  });

  const get = endpoint({
    method: "GET",
    path: "/api/v1/sessions/:session_id",
    tag,
    summary: "Read a session",
    answers: { 200: one },
    errors: ["session_not_found"],
    handle: async ({ tenant, params }) => ({
      status: 200,
      json: shapeSession(await sessions.get(tenant, params.session_id)),
    }),
  });

  const update = endpoint({
    method: "PATCH",
    path: "/api/v1/sessions/:session_id",
    tag,
    summary: "Change timeout or variables; renews the deadline",
    body: Type.Object(
      { timeout, env_vars: Type.Optional(EnvVars) },
      { $id: "SessionUpdate", examples: [{ timeout: 900 }] },
    ),
    answers: { 200: one },
    errors: [...BODY_ERRORS, "invalid_environment", "session_not_found", "session_ended"],
    handle: async ({ tenant, params, body }) => ({
      status: 200,
      json: shapeSession(await sessions.update(tenant, params.session_id, body)),
    }),
  });

  const terminate = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/terminate",
    tag,
    summary: "End a session; the record and its executions stay",
    answers: { 200: one },
    errors: ["session_not_found", "executor_unavailable"],
    async handle(call) {
      call.keepOpen();
      return { status: 200, json: shapeSession(await sessions.terminate(call.tenant, call.params.session_id)) };
    },
  });

  const remove = endpoint({
    method: "DELETE",
    path: "/api/v1/sessions/:session_id",
    tag,
    summary: "End a session and delete its files, executions and record",
    answers: { 204: { description: "It is gone." } },
    errors: ["session_not_found", "executor_unavailable"],
    async handle(call) {
      call.keepOpen();
      await sessions.delete(call.tenant, call.params.session_id);
      return { status: 204 };
    },
  });

  const install = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/dependencies/install",
    tag,
    summary: "Install Python packages into a session",
    body: Type.Object(
      {
        dependencies: Type.Array(Dependency, { minItems: 1, maxItems: 50 }),
        python_package_index_url: Type.Optional(PackageIndexUrl),
        install_timeout: Type.Optional(InstallTimeout),
      },
      { $id: "InstallInput", examples: [{ dependencies: [{ name: "requests", version: "2.32.3" }] }] },
    ),
    answers: { 200: { ...one, description: "The session, with the packages installed." } },
    errors: [
      ...BODY_ERRORS,
      "dependency_failed",
      "session_not_found",
      "session_ended",
      "install_in_progress",
      "queue_full",
      "executor_unavailable",
    ],
    async handle(call) {
      call.keepOpen();
      return {
        status: 200,
        json: shapeSession(await sessions.install(call.tenant, call.params.session_id, call.body)),
      };
    },
  });

  const audit = endpoint({
    method: "GET",
    path: "/api/v1/sessions/:session_id/audit",
    tag,
    summary: "What the session tried to connect to, newest first",
    answers: {
      200: jsonAnswer(
        "The decisions that are kept.",
        Type.Object({ items: Type.Array(Decision), total: Type.Integer() }),
      ),
    },
    errors: ["session_not_found", "executor_unavailable"],
    async handle({ tenant, params }) {
      const items = await sessions.audit(tenant, params.session_id);
      return { status: 200, json: { items, total: items.length } };
    },
  });

  return [create, list, get, update, terminate, remove, install, audit];
}
