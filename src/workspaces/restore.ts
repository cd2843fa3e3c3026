import { AppError } from "../errors.ts";
import type { Executor, WorkspaceContent } from "../executor/protocol.ts";
import type { BlobBody, Manifest, Objects } from "../objects/objects.ts";
import { latestVersion } from "../objects/versions.ts";
import type { Session } from "../sessions/session.ts";
import { storedName } from "./stored-name.ts";

/** Blobs that are opened before it is their turn. */
const AHEAD = 16;

/**
 * Fills the workspace of a session's new executor with its last version, unless its sandbox is there already: nothing of it
 * may have run yet. Without a version nothing is to be done.
 */
export async function restoreWorkspace(objects: Objects, session: Session, executor: Executor): Promise<void> {
  const present = await executor.listSandboxes();
  if (present.some(({ id }) => id === session.id)) return;
  const manifest = await latestVersion(objects, storedName(session));
  if (manifest === null) return;
  const { body, failure } = streamOf(archiveOf(objects, manifest));
  try {
    await executor.restoreTree(session.id, body);
  } catch (error) {
    // The store's failure, and not what the executor says of an archive that was cut.
    const cause = failure() ?? error;
    // Another replica was faster.
    if (!(cause instanceof AppError && cause.code === "session_exists")) throw cause;
  }
}

/** The pieces as they are asked for, and what they failed with, if they did. */
function streamOf(pieces: AsyncGenerator<Uint8Array>): { body: ReadableStream<Uint8Array>; failure: () => unknown } {
  let failed: unknown = null;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await pieces.next();
          if (done === true) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          failed = error;
          controller.error(error);
        }
      },
      cancel: async () => void (await pieces.return(undefined)),
    },
    { highWaterMark: 0 },
  );
  return { body, failure: () => failed };
}

/** See executor/archive.ts. */
async function* archiveOf(objects: Objects, manifest: Manifest): AsyncGenerator<Uint8Array> {
  const { entries, directories = [], links = [] } = manifest;
  const content: WorkspaceContent = { entries, directories, links };
  yield Buffer.from(`${JSON.stringify(content)}\n`);
  const opened: Promise<BlobBody | null>[] = [];
  try {
    for (let next = 0; ;) {
      for (; next < entries.length && opened.length < AHEAD; next++) opened.push(open(objects, entries[next]?.sha256));
      const blob = await opened.shift();
      if (blob === undefined) return;
      if (blob === null) throw new AppError("internal", "a file of the workspace is not in the store");
      yield* blob.body;
    }
  } finally {
    // Nobody reads them any more: they are let go of, whatever became of them.
    for (const blob of opened) await blob.then((one) => one?.body.cancel()).catch(() => {});
  }
}

function open(objects: Objects, sha256 = ""): Promise<BlobBody | null> {
  const blob = objects.get(sha256);
  // Whoever takes it sees the failure; until then nobody need to.
  blob.catch(() => {});
  return blob;
}
