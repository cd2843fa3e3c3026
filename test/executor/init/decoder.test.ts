import { expect, test } from "bun:test";
import { encodeFrame, FrameDecoder, FrameError, FrameType, type Frame } from "../../../src/executor/init/frames.ts";

const MOST = 65_536;

/** As plain values, which outlive the next push. */
function kept(frames: Frame[]): object[] {
  return frames.map((frame) => ({ ...frame, payload: Buffer.from(frame.payload).toString("latin1") }));
}

function header(length: number, type: number, reserved = 0): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32LE(length, 0);
  bytes[4] = type;
  bytes.writeUInt16LE(reserved, 6);
  return bytes;
}

const FRAMES = [
  encodeFrame(FrameType.STDOUT, 1, Buffer.from("first")),
  encodeFrame(FrameType.PONG, 0),
  encodeFrame(FrameType.STDERR, 0xffff_ffff, Buffer.from("second"), 3),
];
const WHOLE = Buffer.concat(FRAMES);
const EXPECTED = kept(FRAMES.flatMap((frame) => new FrameDecoder().push(frame)));

test("frames are the same however their bytes arrive", () => {
  expect(EXPECTED).toHaveLength(3);
  expect(kept(new FrameDecoder().push(WHOLE))).toEqual(EXPECTED);
  for (let size = 1; size < WHOLE.length; size++) {
    const decoder = new FrameDecoder();
    const got: object[] = [];
    for (let at = 0; at < WHOLE.length; at += size) got.push(...kept(decoder.push(WHOLE.subarray(at, at + size))));
    expect(got).toEqual(EXPECTED);
  }
});

test("a frame is given as soon as its last byte is there, and empty chunks change nothing", () => {
  const decoder = new FrameDecoder();
  const frame = encodeFrame(FrameType.RESULT, 5, Buffer.from("value"));
  expect(decoder.push(new Uint8Array())).toEqual([]);
  expect(decoder.push(frame.subarray(0, -1))).toEqual([]);
  expect(decoder.push(new Uint8Array())).toEqual([]);
  expect(decoder.push(frame.subarray(-1))).toHaveLength(1);
});

test("payloads of whole frames lie in the chunk itself; what is kept for later does not", () => {
  const decoder = new FrameDecoder();
  const chunk = new Uint8Array(Buffer.concat([WHOLE, FRAMES[0]?.subarray(0, 14) ?? Buffer.alloc(0)]));
  for (const { payload } of decoder.push(chunk)) expect(payload.buffer).toBe(chunk.buffer);
  chunk.fill(0);
  expect(kept(decoder.push(FRAMES[0]?.subarray(14) ?? Buffer.alloc(0)))).toEqual(EXPECTED.slice(0, 1));
});

test("the longest frame is taken in small chunks", () => {
  const decoder = new FrameDecoder();
  const frame = encodeFrame(FrameType.STDOUT, 1, Buffer.alloc(MOST, "x"));
  const got: number[] = [];
  for (let at = 0; at < frame.length; at += 100)
    got.push(...decoder.push(frame.subarray(at, at + 100)).map(({ payload }) => payload.length));
  expect(got).toEqual([MOST]);
});

test("a header that init would not write is refused as soon as it is there", () => {
  const malformed = [
    header(MOST + 1, FrameType.STDOUT),
    header(0xffff_ffff, FrameType.STDOUT),
    header(0, FrameType.START),
    header(0, FrameType.PROTOCOL_ERROR + 1),
    header(0, 0),
    header(0, FrameType.STDOUT, 1),
  ];
  for (const bytes of malformed) {
    expect(() => new FrameDecoder().push(bytes)).toThrow(FrameError);
    expect(() => new FrameDecoder().push(Buffer.concat([WHOLE, bytes]))).toThrow(FrameError);
    const decoder = new FrameDecoder();
    for (let at = 0; at < 11; at++) expect(decoder.push(bytes.subarray(at, at + 1))).toEqual([]);
    expect(() => decoder.push(bytes.subarray(11))).toThrow(FrameError);
  }
});
