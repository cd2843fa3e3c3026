import {
  encodeFrame,
  encodeInput,
  encodeStart,
  FrameError,
  FrameType,
  StartFlag,
  type StartSpec,
} from "./init/frames.ts";
import type { Command, LaunchPlan } from "./languages/launch.ts";

const NOTHING = new Uint8Array(0);
/** Of arguments and variables together; init takes twice as much, the kernel less. */
const MAX_START_BYTES = 1024 * 1024;

/** Frames that start a program as planned. Throws FrameError when the plan holds what no process can be given. */
export function startFrame(process: number, plan: LaunchPlan): Uint8Array {
  const flags = plan.mode === "zygote" ? StartFlag.ZYGOTE : 0;
  return encodeFrame(FrameType.START, process, startPayload({ ...plan, flags }));
}

function startPayload(spec: StartSpec): Uint8Array {
  const payload = encodeStart(spec);
  if (payload.length > MAX_START_BYTES)
    throw new FrameError("arguments, variables and event are more than a process can be given");
  return payload;
}

/** All that a started program is given to read: its job and its standard input, each to its end. */
export function inputFrames(process: number, job: Uint8Array | null, stdin: string): Uint8Array[] {
  return [
    ...encodeInput(FrameType.JOB, process, job ?? NOTHING),
    ...encodeInput(FrameType.STDIN, process, stdin === "" ? NOTHING : Buffer.from(stdin)),
  ];
}

/** Starts a program that gets its input later. */
export function spareFrame(process: number, command: Command): Uint8Array {
  return encodeFrame(FrameType.START, process, encodeStart(command));
}

/** Defines the warm Python and starts it. */
export function zygoteFrame(command: Command): Uint8Array {
  return encodeFrame(FrameType.ZYGOTE, 0, encodeStart(command));
}
