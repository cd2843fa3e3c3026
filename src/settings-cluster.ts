import { secret, text } from "./setting.ts";

/** Settings that only the cluster's home has. */
export const CLUSTER_SETTINGS = {
  databasePassword: secret(
    text("DATABASE_PASSWORD", /^\S{1,256}$/, "a password without spaces", {
      default: null,
      about: "password for DATABASE_URL, when it is not in there",
    }),
  ),
  executorTokenSecret: secret(
    text("EXECUTOR_TOKEN_SECRET", /^\S{32,256}$/, "at least 32 characters without spaces", {
      default: null,
      about: "what the tokens of the executors in Pods derive from; the same in every replica",
    }),
  ),
  executorImage: text("EXECUTOR_IMAGE", /^\S{1,512}$/, "an image name", {
    default: "sandbox-control-plane:latest",
    about: "image with the executable, for Pods of images that lack it",
  }),
  runtimeClass: text("RUNTIME_CLASS", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, "a RuntimeClass name", {
    default: null,
    about: "RuntimeClass of the sandboxes' Pods, such as gvisor or kata",
  }),
};
