import { Type } from "@sinclair/typebox";
import type { Workspaces } from "../workspaces/workspaces.ts";
import { attachment } from "./content-disposition.ts";
import type { Exchange, Reply } from "./endpoint.ts";
import { Instant, SessionId } from "./schemas.ts";
import { baseName } from "./workspace-path.ts";

/** What `?presign=true` is answered with, instead of the bytes. */
export const PresignedView = Type.Object(
  {
    session_id: SessionId,
    file_path: Type.String({ examples: ["data/in.csv"] }),
    size: Type.Integer({ examples: [2048] }),
    presigned_url: Type.String({
      description: "Where anybody can download the file as it is now.",
      examples: ["https://objects.example.com/sandbox-workspace/blobs/0a1b?X-Amz-Signature=2c3d"],
    }),
    expires_at: Instant,
  },
  { $id: "PresignedFile" },
);

/** A URL of the object store for a file. */
export async function presign(
  workspaces: Workspaces,
  { tenant }: Exchange,
  sessionId: string,
  path: string,
): Promise<Reply> {
  const { url, expiresAt, size } = await workspaces.presign(tenant, sessionId, path, attachment(baseName(path)));
  const view = { session_id: sessionId, file_path: path, size };
  return {
    status: 200,
    headers: { "Cache-Control": "no-store" },
    json: { ...view, presigned_url: url, expires_at: expiresAt.toISOString() },
  };
}
