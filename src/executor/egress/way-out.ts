import { ONCE } from "../ids.ts";
import type { EgressDecision, SandboxSpec } from "../protocol.ts";
import type { TunnelHub } from "../tunnel/hub.ts";
import { Egress, PROXY_PORT, type WayOut } from "./egress.ts";

/** `tunnels`: where connections leave that are decided elsewhere; null: a proxy of this executor's own decides. */
export type WaysOut = { dataDir: string; tunnels: TunnelHub | null };

/** The way out that a specification asks for; null when it asks for none. Throws `bad_request` for rules that can't be read. */
export async function openWayOut(
  { dataDir, tunnels }: WaysOut,
  id: string,
  { network }: SandboxSpec,
  decided: (decision: EgressDecision) => void,
): Promise<WayOut | null> {
  if (network === undefined || network.allow.length === 0) return null;
  if (tunnels === null) return Egress.open(dataDir, network, decided);
  return id.startsWith(ONCE) ? tunnels.listen("layers", 0) : tunnels.listen("sandbox", PROXY_PORT);
}
