/** What a file costs beside its bytes: at most a block that is not full. */
const FILE_BYTES = 4096;
/** Past this part of the limit the oldest are named for removal, … */
const HIGH = 0.8;
/** … so many that this part would be left. */
const LOW = 0.7;

/** The disk that all journals of an executor share. It counts; whoever writes asks it first. */
export class JournalBudget {
  readonly limitBytes: number;
  usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** Whether output of this many bytes may be written. The few lines without output always may. */
  hasRoom(bytes: number): boolean {
    return this.usedBytes + bytes <= this.limitBytes;
  }

  /** How much should go now; 0 while there is enough room. */
  surplusBytes(): number {
    return this.usedBytes <= this.limitBytes * HIGH ? 0 : this.usedBytes - this.limitBytes * LOW;
  }

  fileMade(bytes = 0): void {
    this.usedBytes += bytes + FILE_BYTES;
  }

  written(bytes: number): void {
    this.usedBytes += bytes;
  }

  fileRemoved(bytes: number): void {
    this.usedBytes = Math.max(0, this.usedBytes - bytes - FILE_BYTES);
  }
}
