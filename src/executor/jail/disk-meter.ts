import { existsSync, readdirSync, statfsSync } from "node:fs";
import type { Upload } from "../files.ts";
import { measureUsage, type Usage } from "./usage.ts";

/** Space that a file is expected to take at least: bounds the number of files by the disk limit. */
const BYTES_A_FILE = 8192;
const MIN_FILES = 10_000;
/** The watchdog's scans may take one twentieth of the time. */
const DUTY = 20;
/** A scan that is not worth remembering for an upload; others are good for a few times as long as they took. */
const CHEAP_MS = 20;
const UPLOAD_DUTY = 4;

/** How long the file system's own count may stand in for a scan: what others free there could hide what is taken here. */
const ESTIMATE_MS = 600;

/** Most files that a workspace of this size may have. */
export function maxFiles(diskBytes: number): number {
  return Math.max(MIN_FILES, Math.floor(diskBytes / BYTES_A_FILE));
}

/** How full a workspace is, for the watchdog and for writes from outside. */
export class DiskMeter {
  readonly limit: Usage;
  readonly #dir: string;
  readonly #besides: readonly string[];
  readonly #pids: () => number[];
  #last: Usage = { bytes: 0, files: 0 };
  /** What the file system had free when the last scan began, and when that was. */
  #free: Usage;
  #scannedAtMs: number;
  #goodUntilMs = 0;
  #scanMs = 0;
  #scan: Promise<Usage> | null = null;
  /** Bytes that uploads are writing, and have written at any time; of the latter, those that the last scan saw. */
  #uploading = 0;
  #uploaded = 0;
  #uploadedBefore = 0;

  /** `pids`: the sandbox's processes, whose open files without a name count too. `besides`: directories that count too. */
  constructor(dir: string, diskBytes: number, pids: () => number[], besides: readonly string[] = []) {
    this.#dir = dir;
    this.#besides = besides;
    this.#pids = pids;
    this.limit = { bytes: diskBytes, files: maxFiles(diskBytes) };
    this.#free = freeSpace(dir);
    this.#scannedAtMs = readdirSync(dir).length === 0 ? performance.now() : Number.NEGATIVE_INFINITY;
  }

  /** Milliseconds that should pass between two scans. */
  get pauseMs(): number {
    return this.#scanMs * DUTY;
  }

  isOver(used: Usage): boolean {
    return used.bytes > this.limit.bytes || used.files > this.limit.files;
  }

  /**
   * Whether a scan could find the limit passed: the whole file system has lost as much space, or as many files, as was left
   * to this workspace at the last scan, or that scan is too long ago. One system call in place of a walk.
   */
  couldBeOver(): boolean {
    if (performance.now() - this.#scannedAtMs > ESTIMATE_MS) return true;
    const now = freeSpace(this.#dir);
    const { limit } = this;
    return (
      this.#free.bytes - now.bytes >= limit.bytes - this.#last.bytes ||
      this.#free.files - now.files >= limit.files - this.#last.files
    );
  }

  /** What is used now, counted up to twice the limit. */
  look(): Promise<Usage> {
    this.#scan ??= this.#look();
    return this.#scan;
  }

  async #look(): Promise<Usage> {
    const startedMs = performance.now();
    const free = freeSpace(this.#dir);
    const uploaded = this.#uploaded;
    try {
      this.#last = await this.#measure();
      this.#uploadedBefore = uploaded;
      this.#free = free;
      this.#scannedAtMs = startedMs;
      this.#scanMs = performance.now() - startedMs;
      this.#goodUntilMs = this.#scanMs < CHEAP_MS ? 0 : performance.now() + this.#scanMs * UPLOAD_DUTY;
      return this.#last;
    } finally {
      this.#scan = null;
    }
  }

  async #measure(): Promise<Usage> {
    const most = { bytes: this.limit.bytes * 2, files: this.limit.files * 2 };
    const used = await measureUsage(this.#dir, most, this.#pids);
    for (const dir of this.#besides.filter((one) => existsSync(one))) {
      const { bytes, files } = await measureUsage(dir, most);
      used.bytes += bytes;
      used.files += files;
    }
    return used;
  }

  async beginUpload(): Promise<Upload> {
    if (performance.now() >= this.#goodUntilMs) await this.look();
    let taken = 0;
    const take = (bytes: number): boolean => {
      taken += bytes;
      this.#uploading += bytes;
      const { bytes: used, files } = this.#last;
      const uploaded = this.#uploaded - this.#uploadedBefore;
      return files < this.limit.files && used + uploaded + this.#uploading <= this.limit.bytes;
    };
    const end = (isKept: boolean): void => {
      this.#uploading -= taken;
      if (isKept) this.#uploaded += taken;
      taken = 0;
    };
    return { take, end };
  }
}

function freeSpace(dir: string): Usage {
  const { bfree, bsize, ffree } = statfsSync(dir);
  return { bytes: bfree * bsize, files: ffree };
}
