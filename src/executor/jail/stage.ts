import { mkdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

/** Where the launcher puts what a jail is made of when the users of sandboxes can't pass to the data directory. */
const STAGE = "/run/sandbox-stage";

/** Paths of a jail by a name of each, those that there are. */
export type StagedPaths = Record<string, string | null | undefined>;

/** How a jail comes to the files of a data directory: by their paths, or by a stage that only its launcher sees. */
export class Stage {
  readonly #dataDir: string;
  readonly #isNeeded: boolean;

  /** `forOthers`: sandboxes run under users of their own. */
  constructor(dataDir: string, forOthers: boolean) {
    this.#dataDir = dataDir;
    this.#isNeeded = forOthers && !isPassable(dataDir);
    if (this.#isNeeded) mkdirSync(STAGE, { recursive: true, mode: 0o755 });
  }

  /** The paths by which a jail reaches these, and the launcher's arguments for it. */
  place<T extends StagedPaths>(paths: T): { paths: T; launcher: string[] } {
    if (!this.#isNeeded) return { paths, launcher: [] };
    const within = Object.entries(paths).filter(([, path]) => path?.startsWith(`${this.#dataDir}/`) === true);
    const staged = Object.fromEntries(within.map(([name]) => [name, join(STAGE, name)]));
    return {
      paths: { ...paths, ...staged },
      launcher: ["--stage", STAGE, ...within.flatMap(([name, path]) => ["--bind", `${name}=${path}`])],
    };
  }
}

/** Whether every user can pass through every directory above `path`. */
function isPassable(path: string): boolean {
  for (let above = dirname(realpathSync(path)); ; above = dirname(above)) {
    if ((statSync(above).mode & 0o001) === 0) return false;
    if (above === dirname(above)) return true;
  }
}
