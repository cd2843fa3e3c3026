import { AppError } from "../errors.ts";
import type { Template, TemplateStore } from "../templates/template.ts";
import { Columns } from "./columns.ts";
import { marks, UniqueViolation, type Sql } from "./sql.ts";

const COLUMNS = new Columns<Template>({
  id: "plain",
  name: "plain",
  image_url: "plain",
  runtime_type: "plain",
  default_cpu_cores: "plain",
  default_memory_mb: "plain",
  default_disk_mb: "plain",
  default_timeout: "plain",
  default_env_vars: "json",
  warm_pool_size: "plain",
  preload_modules: "json",
  network: "json",
  is_active: "boolean",
  created_at: "plain",
  updated_at: "plain",
});

const SELECT = `SELECT ${COLUMNS.list()} FROM templates`;
const INSERT = `INSERT INTO templates (${COLUMNS.list()}) VALUES (${marks(COLUMNS.names)})`;

export class SqlTemplateStore implements TemplateStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async insert(template: Template): Promise<void> {
    await refusingTaken(this.#sql.run(INSERT, COLUMNS.values(template)));
  }

  async get(id: string): Promise<Template | null> {
    const [row] = await this.#sql.query(`${SELECT} WHERE id = ?`, [id]);
    return row === undefined ? null : COLUMNS.read(row);
  }

  async list(): Promise<Template[]> {
    return (await this.#sql.query(`${SELECT} ORDER BY name`)).map((row) => COLUMNS.read(row));
  }

  async update(id: string, fields: Partial<Omit<Template, "id">>): Promise<boolean> {
    const set = COLUMNS.assignments(fields);
    return (
      (await refusingTaken(
        this.#sql.run(`UPDATE templates SET ${set.sql || "id = id"} WHERE id = ?`, [...set.values, id]),
      )) > 0
    );
  }

  async delete(id: string): Promise<boolean> {
    const sql = `DELETE FROM templates WHERE id = ?
      AND NOT EXISTS (SELECT 1 FROM sessions WHERE template_id = ? AND status IN ('creating', 'running'))`;
    return (await this.#sql.run(sql, [id, id])) > 0;
  }
}

async function refusingTaken<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof UniqueViolation)) throw error;
    const field = error.constraint.includes("name") ? "name" : "id";
    throw new AppError("template_exists", `a template with this ${field} exists already`);
  }
}
