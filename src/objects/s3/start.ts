import { setTimeout as delay } from "node:timers/promises";
import type { S3 } from "@aws-sdk/client-s3";
import { ConfigError, type S3Config } from "../../config.ts";

export type StartOptions = {
  /** How long to wait for a store that can't be reached yet, in milliseconds. */
  waitMs: number;
  /** Told once, why the start waits. */
  onWaiting: (reason: string) => void;
};

type Fault = { name: string; message: string; code?: string; $metadata?: { httpStatusCode?: number } };

const RETRY_MS = 500;
const REQUEST_MS = 5000;

/** Makes the bucket unless it is there. Waits for a store that can't be reached yet. Throws ConfigError. */
export async function ensureBucket(s3: S3, config: S3Config, { waitMs, onWaiting }: StartOptions): Promise<void> {
  const until = performance.now() + waitMs;
  for (let isTold = false; ; isTold = true) {
    try {
      return await lookAt(s3, config);
    } catch (error) {
      const fault = error as Fault;
      const refused = refusal(config, fault);
      if (refused !== null) throw new ConfigError(refused);
      const reason = `${config.endpointUrl} can't be reached: ${fault.code ?? fault.name}`;
      if (performance.now() >= until) throw new ConfigError(`S3_ENDPOINT_URL=${reason}`);
      if (!isTold) onWaiting(reason);
      await delay(RETRY_MS);
    }
  }
}

/** Lists the bucket, then writes and removes an object under `key`. Throws ConfigError that says why it can't be used. */
export async function inspectBucket(s3: S3, config: S3Config, key: string): Promise<string> {
  const { bucket: Bucket, endpointUrl } = config;
  const abort = () => ({ abortSignal: AbortSignal.timeout(REQUEST_MS) });
  let doing = "list";
  try {
    await s3.listObjectsV2({ Bucket, MaxKeys: 1 }, abort());
    doing = "write to";
    await s3.putObject({ Bucket, Key: key, Body: "written by sandbox doctor" }, abort());
    doing = "delete from";
    await s3.deleteObject({ Bucket, Key: key }, abort());
    return `bucket ${Bucket} of ${endpointUrl} can be read and written`;
  } catch (error) {
    const fault = error as Fault;
    if (fault.name === "NoSuchBucket")
      return `${endpointUrl} has no bucket ${Bucket} yet, which is made at the first start`;
    if (fault.name === "AccessDenied")
      throw new ConfigError(`S3_ACCESS_KEY_ID=${config.accessKeyId} may not ${doing} bucket ${Bucket}`);
    const why = fault.code ?? fault.name;
    throw new ConfigError(refusal(config, fault) ?? `S3_ENDPOINT_URL=${endpointUrl} can't be reached: ${why}`);
  }
}

async function lookAt(s3: S3, { bucket, region }: S3Config): Promise<void> {
  try {
    // Unlike a HEAD, this is refused with a reason.
    await s3.listObjectsV2({ Bucket: bucket, MaxKeys: 1 }, { abortSignal: AbortSignal.timeout(REQUEST_MS) });
  } catch (error) {
    if ((error as Fault).name !== "NoSuchBucket") throw error;
    const place = region === "us-east-1" ? {} : { CreateBucketConfiguration: { LocationConstraint: region as never } };
    try {
      await s3.createBucket({ Bucket: bucket, ...place }, { abortSignal: AbortSignal.timeout(REQUEST_MS) });
    } catch (refused) {
      // Another replica was faster.
      if ((refused as Fault).name !== "BucketAlreadyOwnedByYou") throw refused;
    }
  }
}

/** What the operator must change when the store answers so; null when it may be better later. */
function refusal(config: S3Config, { name, message, $metadata }: Fault): string | null {
  const { endpointUrl, accessKeyId, region, bucket } = config;
  switch (name) {
    case "InvalidAccessKeyId":
      return `S3_ACCESS_KEY_ID=${accessKeyId} is not known to ${endpointUrl}`;
    case "SignatureDoesNotMatch":
      return `S3_SECRET_ACCESS_KEY is not the one that ${endpointUrl} has for ${accessKeyId}`;
    case "AccessDenied":
    case "AllAccessDisabled":
      return `S3_ACCESS_KEY_ID=${accessKeyId} may not use or make bucket ${bucket}`;
    case "BucketAlreadyExists":
    case "InvalidBucketName":
      return `S3_BUCKET=${bucket} can't be used: ${oneLine(message)}`;
    case "AuthorizationHeaderMalformed":
    case "PermanentRedirect":
    case "IllegalLocationConstraintException":
    case "InvalidLocationConstraint":
    case "InvalidRegion":
      return `S3_REGION=${region} is not the region of bucket ${bucket}: ${oneLine(message)}`;
    case "RequestTimeTooSkewed":
      return `S3_ENDPOINT_URL=${endpointUrl}: the clocks of this host and of the store differ by too much`;
  }
  const status = $metadata?.httpStatusCode ?? 0;
  if (status >= 400 && status < 500 && status !== 408 && status !== 429)
    return `S3_ENDPOINT_URL=${endpointUrl} answers ${status} ${name}: ${oneLine(message)}`;
  return null;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").slice(0, 200);
}
