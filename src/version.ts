import { version } from "../package.json";

/** Replaced at build time by the commit that was built; empty when run from source. */
declare const BUILD_COMMIT: string | undefined;

/** False when this program runs from source. */
export const IS_COMPILED = typeof BUILD_COMMIT === "string";

const commit = IS_COMPILED ? BUILD_COMMIT : "";

/** Version of this program, such as "0.1.0" or "0.1.0+a1b2c3d". */
export const VERSION = commit === "" ? version : `${version}+${commit}`;
