import { Type } from "@sinclair/typebox";
import { endpoint, type Endpoint } from "./endpoint.ts";

/** What is counted of requests, and the figures of the whole service as Prometheus reads them. */
export interface HttpMetrics {
  /** One answered request; `route` is a pattern, never a path. */
  request(method: string, route: string, status: number, seconds: number): void;
  /** Clients that follow an event stream: one more (1) or one less (-1). */
  streamClients(change: 1 | -1): void;
  readonly contentType: string;
  text(): Promise<string>;
}

/** The route that Prometheus scrapes. */
export function metricsEndpoints(metrics: HttpMetrics): Endpoint[] {
  return [
    endpoint({
      method: "GET",
      path: "/metrics",
      access: "monitor",
      tag: "operation",
      summary: "Figures for Prometheus",
      answers: {
        200: {
          description: "Exposition text.",
          content: { "text/plain": { schema: Type.String({ examples: ["sandbox_sessions_active 3\n"] }) } },
        },
      },
      errors: [],
      handle: async () => ({
        status: 200,
        text: await metrics.text(),
        headers: { "Content-Type": metrics.contentType },
      }),
    }),
  ];
}
