import { list, parseRange, secret, text, whole } from "./setting.ts";

/** Settings that concern the cluster's home, and stores that many processes share. */
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
  objectGraceMs: whole("OBJECT_GRACE_SECONDS", {
    default: 86_400,
    min: 1,
    max: 31_536_000,
    scale: 1000,
    about: "seconds for which a stored file that no workspace has is kept; presigned URLs work for at most half of it",
  }),
  privateNetworkRanges: list(
    "PRIVATE_NETWORK_RANGES",
    "ranges such as 10.20.0.0/16, separated by commas",
    "private and special addresses that `network` rules of sessions in Pods may name, since the control plane dials them; others are refused",
    parseRange,
  ),
  runtimeClass: text("RUNTIME_CLASS", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, "a RuntimeClass name", {
    default: null,
    about: "RuntimeClass of the sandboxes' Pods, such as gvisor or kata",
  }),
};
