import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

/** A block of commands of deploy/README.md: `sh` are those that any cluster takes as they stand, one after the other. */
export type Block = { heading: string; kind: "sh" | "console"; text: string };

/** All of them, in their order. */
export async function guideBlocks(): Promise<Block[]> {
  const guide = await Bun.file(join(ROOT, "deploy/README.md")).text();
  return guide.split(/^(?=##+ )/m).flatMap((section) => {
    const heading = /^#+ (.*)$/m.exec(section)?.[1] ?? "";
    return [...section.matchAll(/^```(sh|console)\n(.*?)^```$/gms)].map(([, kind, text = ""]) => ({
      heading,
      kind: kind as Block["kind"],
      text,
    }));
  });
}

/** The one below this heading that has these words. */
export async function guideBlock(heading: string, words: string): Promise<string> {
  const found = (await guideBlocks()).filter((block) => block.heading === heading && block.text.includes(words));
  if (found.length !== 1) throw new Error(`the guide has ${found.length} blocks below ${heading} with ${words}`);
  return found[0]?.text ?? "";
}
