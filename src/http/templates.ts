import { Type } from "@sinclair/typebox";
import { RUNTIME_TYPES, type Template } from "../templates/template.ts";
import type { Templates } from "../templates/templates.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { BODY_ERRORS, EnvVars, EnvVarsShown, Instant, jsonAnswer, Network, oneOf } from "./schemas.ts";

const Id = Type.String({
  minLength: 1,
  maxLength: 64,
  pattern: "^[^/\\u0000-\\u001f\\u007f]*$",
  examples: ["data-tools"],
});
const Name = Type.String({ minLength: 1, maxLength: 255, examples: ["Data tools"] });
const ImageUrl = Type.String({ minLength: 1, maxLength: 512, examples: ["example.com/data-tools:1"] });

const PreloadModules = Type.Array(
  Type.String({ pattern: "^[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*$", maxLength: 200 }),
  {
    maxItems: 32,
    default: [],
    description:
      "Python modules of the image that a sandbox imports while idle, so that programs get them for nothing. Not for packages that sessions install: those win over what is imported here. One that can't be imported is left out.",
    examples: [["numpy", "pandas"]],
  },
);

const changeable = {
  default_cpu_cores: Type.Optional(Type.Number({ minimum: 0.1, maximum: 4, default: 0.5 })),
  default_memory_mb: Type.Optional(Type.Integer({ minimum: 128, maximum: 8192, default: 512 })),
  default_disk_mb: Type.Optional(Type.Integer({ minimum: 256, maximum: 51_200, default: 1024 })),
  default_timeout: Type.Optional(
    Type.Integer({ minimum: 60, maximum: 3600, description: "Seconds; absent: the configured DEFAULT_TIMEOUT (300)." }),
  ),
  default_env_vars: Type.Optional(EnvVars),
  warm_pool_size: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000, default: 0 })),
  preload_modules: Type.Optional(PreloadModules),
  network: Type.Optional(Network),
  is_active: Type.Optional(Type.Boolean({ default: true })),
};

const Input = Type.Object(
  { id: Id, name: Name, image_url: ImageUrl, runtime_type: oneOf(RUNTIME_TYPES), ...changeable },
  { $id: "TemplateInput" },
);

const Change = Type.Object(
  { name: Type.Optional(Name), image_url: Type.Optional(ImageUrl), ...changeable },
  { $id: "TemplateChange", description: "`id` and `runtime_type` can't be changed and are ignored." },
);

const TemplateView = Type.Object(
  {
    id: Type.String({ examples: ["data-tools"] }),
    name: Type.String({ examples: ["Data tools"] }),
    image_url: Type.String({ examples: ["example.com/data-tools:1"] }),
    runtime_type: oneOf(RUNTIME_TYPES),
    default_cpu_cores: Type.Number({ examples: [0.5] }),
    default_memory_mb: Type.Integer({ examples: [512] }),
    default_disk_mb: Type.Integer({ examples: [1024] }),
    default_timeout: Type.Integer({ description: "Seconds.", examples: [300] }),
    default_timeout_sec: Type.Integer({ description: "The same as default_timeout.", examples: [300] }),
    default_env_vars: EnvVarsShown,
    warm_pool_size: Type.Integer({ examples: [2] }),
    preload_modules: Type.Array(Type.String({ examples: ["numpy"] })),
    network: Type.Object({ allow: Type.Array(Type.String({ examples: ["pypi.org"] })) }),
    is_active: Type.Boolean({ examples: [true] }),
    created_at: Instant,
    updated_at: Instant,
  },
  { $id: "Template" },
);

/** Routes of templates, which all tenants share. `defaultTimeoutS` is the timeout of those that have none of their own. */
export function templateEndpoints(templates: Templates, defaultTimeoutS: number): Endpoint[] {
  const shapeTemplate = (template: Template) => shaped(template, defaultTimeoutS);
  const tag = "templates";
  const one = jsonAnswer("The template.", TemplateView);

  return [
    endpoint({
      method: "POST",
      path: "/api/v1/templates",
      tag,
      summary: "Make a template",
      body: Input,
      answers: { 201: one },
      errors: [...BODY_ERRORS, "bad_request", "invalid_environment", "template_exists"],
      async handle({ body }) {
        const template = await templates.create(body);
        const headers = { Location: `/api/v1/templates/${encodeURIComponent(template.id.toWellFormed())}` };
        return { status: 201, json: shapeTemplate(template), headers };
      },
    }),
    endpoint({
      method: "GET",
      path: "/api/v1/templates",
      tag,
      summary: "List templates, by name",
      answers: { 200: jsonAnswer("All templates.", Type.Array(TemplateView)) },
      errors: [],
      handle: async () => ({ status: 200, json: (await templates.list()).map(shapeTemplate) }),
    }),
    endpoint({
      method: "GET",
      path: "/api/v1/templates/:template_id",
      tag,
      summary: "Read a template",
      answers: { 200: one },
      errors: ["template_not_found"],
      handle: async ({ params }) => ({ status: 200, json: shapeTemplate(await templates.get(params.template_id)) }),
    }),
    endpoint({
      method: "PUT",
      path: "/api/v1/templates/:template_id",
      tag,
      summary: "Change a template; sessions that exist keep what they started with",
      body: Change,
      answers: { 200: one },
      errors: [...BODY_ERRORS, "bad_request", "invalid_environment", "template_not_found", "template_exists"],
      handle: async ({ params, body }) => ({
        status: 200,
        json: shapeTemplate(await templates.update(params.template_id, body)),
      }),
    }),
    endpoint({
      method: "DELETE",
      path: "/api/v1/templates/:template_id",
      tag,
      summary: "Delete a template that no live session uses",
      answers: {
        200: jsonAnswer(
          "It is gone.",
          Type.Object({ message: Type.String({ examples: ["template data-tools is deleted"] }) }),
        ),
      },
      errors: ["template_not_found", "template_in_use"],
      async handle({ params }) {
        await templates.delete(params.template_id);
        return { status: 200, json: { message: `template ${params.template_id} is deleted` } };
      },
    }),
  ];
}

function shaped(template: Template, defaultTimeoutS: number) {
  const timeout = template.default_timeout ?? defaultTimeoutS;
  return {
    id: template.id,
    name: template.name,
    image_url: template.image_url,
    runtime_type: template.runtime_type,
    default_cpu_cores: template.default_cpu_cores,
    default_memory_mb: template.default_memory_mb,
    default_disk_mb: template.default_disk_mb,
    default_timeout: timeout,
    default_timeout_sec: timeout,
    default_env_vars: template.default_env_vars,
    warm_pool_size: template.warm_pool_size,
    preload_modules: template.preload_modules,
    network: { allow: template.network },
    is_active: template.is_active,
    created_at: template.created_at,
    updated_at: template.updated_at,
  };
}
