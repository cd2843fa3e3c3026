import type { Provisioner } from "../provisioners/provisioner.ts";
import type { TemplateStore } from "../templates/template.ts";

/** Keeps the provisioner's warm pools as the templates want them. Level-triggered: called at every resync. */
export class WarmPoolKeeper {
  readonly #templates: TemplateStore;
  readonly #provisioner: Provisioner;

  constructor(templates: TemplateStore, provisioner: Provisioner) {
    this.#templates = templates;
    this.#provisioner = provisioner;
  }

  async resync(): Promise<void> {
    const templates = await this.#templates.list();
    await this.#provisioner.keepWarm?.(templates.filter((one) => one.is_active && one.warm_pool_size > 0));
  }
}
