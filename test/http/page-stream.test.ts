import { describe, expect, test } from "bun:test";
import { pageStream } from "../../src/http/page-stream.ts";

/** Items from 1 to `count`; `state` says how far they were read and whether they were left. */
function numbers(count: number) {
  const state = { read: 0, left: false };
  async function* items(): AsyncGenerator<number> {
    try {
      while (state.read < count) yield await Promise.resolve(++state.read);
    } finally {
      state.left = true;
    }
  }
  return { state, listed: { items: items(), count, total: 7 } };
}

const page = { limit: 3, offset: 3 };

describe("a page as a stream", () => {
  test.each([0, 1, 3])("is the JSON of a page with %d items", async (count) => {
    const stream = pageStream(numbers(count).listed, page, (n) => JSON.stringify({ n }));
    expect(await new Response(stream).json()).toEqual({
      items: Array.from({ length: count }, (_, i) => ({ n: i + 1 })),
      total: 7,
      ...page,
      has_more: 3 + count < 7,
    });
  });

  test("reads an item when it is asked for, and ends with its reader", async () => {
    const { state, listed } = numbers(100);
    const reader = pageStream(listed, page, String).getReader();
    await reader.read();
    await reader.read();
    expect(state.read).toBe(2);
    await reader.cancel();
    expect(state).toEqual({ read: 2, left: true });
  });
});
