import { Recent } from "../recent.ts";
import type { Execution } from "./execution.ts";

/** They come within moments or never. */
const MAX_REMEMBERED = 1000;

/** Executions that were cancelled before they came: those never start. */
export class EarlyCancels {
  readonly #ids = new Recent<true>(MAX_REMEMBERED);

  add(id: string): void {
    this.#ids.set(id, true);
  }

  /** Whether it is one of them; its journal has its end then. */
  end(execution: Execution): boolean {
    if (!this.#ids.delete(execution.id)) return false;
    execution.wait();
    void execution.stop("cancelled");
    return true;
  }
}
