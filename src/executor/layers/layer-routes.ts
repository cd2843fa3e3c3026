import { AppError } from "../../errors.ts";
import type { LayerRequest } from "../protocol.ts";
import { firstLine } from "./layer-archive.ts";
import type { Layers } from "./layers.ts";

/** Answers requests for layers (protocol.ts). `name` is what follows `/layers/`, if anything does. */
export async function layerRoute(request: Request, name: string | undefined, layers: Layers): Promise<Response> {
  switch (`${request.method} ${name === undefined || name === "find" ? (name ?? "") : "NAME"}`) {
    case "POST ":
      return Response.json(await layers.ensure(checked(await request.text())));
    case "POST find":
      return Response.json(layers.find(checked(await request.text())));
    case "PUT ": {
      const { line, rest } = await firstLine(request.body ?? new Blob([]).stream());
      return Response.json(await layers.adopt(checked(line), rest));
    }
    case "GET NAME":
      return new Response(await layers.archive(name ?? ""), {
        headers: { "Content-Type": "application/octet-stream" },
      });
    default:
      throw new AppError("not_found", "the executor has no such route");
  }
}

/** The peer is this program too, but perhaps of another version. */
function checked(text: string): LayerRequest {
  try {
    const request = JSON.parse(text) as LayerRequest;
    if (Array.isArray(request.requirements) && request.timeoutMs > 0) return request;
  } catch {
    // Said below.
  }
  throw new AppError("bad_request", "not a layer request");
}
