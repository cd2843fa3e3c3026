import { AppError } from "../errors.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { ErrorWithHeaders } from "./errors.ts";

const CORS_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-ID, Idempotency-Key, Last-Event-ID, Range";

const BASE = "/api/v1";
/** Characters of a path that a message repeats at most. */
const MAX_SHOWN = 200;

/** What answers a path that is no route's, or is one with another method. */
export function unknownRoute(endpoints: readonly Endpoint[]): Endpoint {
  const methodsAt = methodFinder(endpoints);
  return endpoint({
    method: "GET",
    path: "/*",
    tag: "errors",
    summary: "No route",
    answers: {},
    errors: ["not_found", "method_not_allowed"],
    handle({ path, request }) {
      const allow = methodsAt(path).join(", ");
      const message = `${request.method} is not allowed here, but ${allow}`;
      throw new ErrorWithHeaders("method_not_allowed", message, { Allow: allow });
    },
  });
}

/** What answers OPTIONS: the methods of the path, and to a browser what a configured origin may send. */
export function preflight(endpoints: readonly Endpoint[]): Endpoint {
  const methodsAt = methodFinder(endpoints);
  return endpoint({
    method: "GET",
    path: "/*",
    tag: "errors",
    summary: "What may be sent",
    access: "public",
    answers: {},
    errors: ["not_found"],
    handle({ path, request }) {
      const allow = methodsAt(path).join(", ");
      if (!request.headers.has("access-control-request-method")) return { status: 204, headers: { Allow: allow } };
      return {
        status: 204,
        headers: {
          Allow: allow,
          "Access-Control-Allow-Methods": allow,
          "Access-Control-Allow-Headers": CORS_HEADERS,
          "Access-Control-Max-Age": "600",
        },
      };
    },
  });
}

/** Tells the methods of the routes at a path. Throws `not_found` when there is none, with the route that was meant if a slash or the base is wrong. */
function methodFinder(endpoints: readonly Endpoint[]): (path: string) => string[] {
  const patterns = endpoints.map(({ method, path }) => ({
    method,
    pattern: new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/:\w+/g, "[^/]+").replace("*", ".*")}$`),
  }));
  const methodsAt = (path: string): string[] =>
    patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
  return (path) => {
    const methods = methodsAt(path);
    if (methods.length > 0) return [...new Set([...methods, ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"])];
    const meant = nearPaths(path).find((other) => methodsAt(other).length > 0);
    const hint = meant === undefined ? "" : `; ${meant} is one`;
    throw new AppError("not_found", `there is no such route${hint}; see /docs`);
  };
}

/** The path without what is too much of slashes; also with the base of the API, and without. */
function nearPaths(path: string): string[] {
  const plain = `/${path.split("/").filter(Boolean).join("/")}`;
  const near = [plain, `${BASE}${plain}`, plain.replace(BASE, "")];
  return near.filter((other) => other !== "" && other.length <= MAX_SHOWN);
}
