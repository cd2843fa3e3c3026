import { existsSync } from "node:fs";
import { join } from "node:path";
import { guideBlock } from "./guide.ts";

const ROOT = join(import.meta.dir, "../..");
const LAB_BUILDER = join(ROOT, "../shared/lab/image");

/**
 * What builds an image and loads it into the cluster, called as `BUILDER build DOCKERFILE CONTEXT NAME:TAG`: IMAGE_BUILDER,
 * or that of the lab beside the checkout. Null where there is none: the images in the cluster are then tested as they are.
 */
function imageBuilder(): string | null {
  const named = process.env["IMAGE_BUILDER"] ?? "";
  if (named !== "") return named;
  return existsSync(LAB_BUILDER) ? LAB_BUILDER : null;
}

const BUILT = "SANDBOX_IMAGES_BUILT";

/** Builds the guide's images in its order, of this checkout. Once in a run; what has not changed takes a few
 * seconds. Throws with what failed. */
export async function buildImages(): Promise<void> {
  const builder = imageBuilder();
  if (builder === null || process.env[BUILT] !== undefined) return;
  process.env[BUILT] = "1";
  const commands = await guideBlock("2. The images", "docker build");
  for (const line of commands.trim().split("\n")) {
    const [, file, name = "", context = ""] = /^docker build(?: -f (\S+))? -t (\S+) (\S+)$/.exec(line) ?? [];
    if (name === "") throw new Error(`not understood: ${line}`);
    const child = Bun.spawn([builder, "build", file ?? join(context, "Dockerfile"), context, name], {
      cwd: ROOT,
      stdout: "ignore",
      stderr: "pipe",
    });
    const said = await new Response(child.stderr).text();
    if ((await child.exited) !== 0) throw new Error(`${name} was not built: ${said.slice(-4000)}`);
  }
}
