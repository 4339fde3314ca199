/**
 * undici 7 takes the whole process down when a server closes its connection while the answer waits to be read: "Connection:
 * close" on a layer is enough (its issue 5360; mended in 8, which Node 20 cannot run). Imported for its effect by whoever
 * makes a dispatcher: an answer that waits is let on before undici hears of the end.
 */
import { subscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** Of undici's parser of a connection. */
interface Parser {
  paused: boolean;
  readonly ptr: number;
  readonly llhttp: { llhttp_resume(ptr: number): void };
  resume(): void;
  finish(): unknown;
}

subscribe("undici:client:connected", (message) => {
  const { socket } = message as { socket: Socket };
  // all that has come was read before: resumed, it has nothing more to hand out than the answer's end
  socket.prependListener("end", () => {
    const parser = parserOf(socket);
    parser?.resume();
    // an answer without a length waits again: its end is the connection's, of which undici hears next
    if (!parser?.paused) return;
    parser.llhttp.llhttp_resume(parser.ptr);
    parser.paused = false;
  });
  // nothing more is to be handed out of a connection that is given up
  socket.prependListener("close", () => {
    const parser = parserOf(socket);
    if (parser !== undefined) parser.paused = false;
  });
});

/** Undefined: HTTP/2, or it is gone already. */
function parserOf(socket: Socket): Parser | undefined {
  const own = socket as unknown as Record<symbol, unknown>;
  const values = Object.getOwnPropertySymbols(socket).map((key) => own[key]);
  return values.find((value): value is Parser => {
    const { resume, finish } = (value ?? {}) as Partial<Parser>;
    return typeof resume === "function" && typeof finish === "function";
  });
}
