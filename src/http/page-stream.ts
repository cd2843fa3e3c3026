/**
 * A page as JSON (contract: items, total, limit, offset, has_more), written item by item as its reader takes them, so that
 * a page of large items is never in memory as a whole.
 */
export function pageStream<T>(
  listed: { items: AsyncGenerator<T>; count: number; total: number },
  page: { limit: number; offset: number },
  textOf: (item: T) => string,
): ReadableStream<Uint8Array> {
  const { items, count, total } = listed;
  const rest = JSON.stringify({ total, ...page, has_more: page.offset + count < total });
  const encoder = new TextEncoder();
  let before = '{"items":[';
  return new ReadableStream(
    {
      async pull(controller) {
        const next = await items.next();
        if (next.done === true) {
          const isEmpty = before !== ",";
          controller.enqueue(encoder.encode(`${isEmpty ? before : ""}],${rest.slice(1)}`));
          controller.close();
          return;
        }
        controller.enqueue(encoder.encode(before + textOf(next.value)));
        before = ",";
      },
      async cancel() {
        await items.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}
