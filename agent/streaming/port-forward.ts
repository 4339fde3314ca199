/** A client's port-forwards to one pod, in each of the ways that they come. */
import { connectToPod } from "../../sandbox/connect-to-pod.js";
import type { Observer } from "../../sandbox/observer.js";
import type { Pod } from "../../sandbox/pod.js";
import { type Carrier, headroom } from "./carrier.js";
import { type Forward, Forwards } from "./forward.js";
import { StreamStatus } from "./spdy/frames.js";
import { SpdySession, type SpdyStream } from "./spdy/session.js";
import type { Agreed, Protocols } from "./upgrade.js";
import { ChannelConnection } from "./websocket/channel-connection.js";
import { CloseCode } from "./websocket/frames.js";
import { TunnelCarrier } from "./websocket/tunnel.js";

const spdyProtocol = "portforward.k8s.io";
const tunnelProtocol = `SPDY/3.1+${spdyProtocol}`;

export const portForwardProtocols: Protocols = {
  websocket: [tunnelProtocol, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""],
  spdy: [spdyProtocol],
};

/** How long a client may take to open the second of a connection's two streams. */
const pairMs = 30_000;

/**
 * @param ports for WebSocket channels alone; over SPDY each stream names its own
 * @param observer tells of the pod's end, which is the connections', too
 */
export function servePortForward(pod: Pod, ports: readonly number[], agreed: Agreed, observer: Observer): void {
  const connectTo = (port: number) => connectToPod(pod, port);
  const told = (port: number, problem: string) =>
    `error forwarding port ${port} to pod ${pod.record.id}, uid ${pod.config.metadata?.uid ?? ""}: ${problem}`;
  const { kind, protocol, carrier } = agreed;
  let forwards: Forwards;
  if (kind === "spdy") forwards = serveForwards(carrier, connectTo, told);
  else if (protocol === tunnelProtocol) forwards = serveForwards(new TunnelCarrier(carrier), connectTo, told);
  else forwards = serveChannels(carrier, protocol, ports, connectTo, told);
  forwards.onGone = observer.subscribe((happening) => {
    if (happening.type !== "pod-event" || happening.podId !== pod.record.id || happening.event !== "stopped") return;
    forwards.failAll("the pod was stopped");
  });
}

type Connect = (port: number) => Promise<number>;
type Tell = (port: number, problem: string) => string;

interface Pair {
  port: number;
  data: SpdyStream | null;
  error: SpdyStream | null;
  forward: Forward | null;
  timer: NodeJS.Timeout;
}

/**
 * Over a SPDY session. A stream for data and one for an error make a connection: the headers "port" and "requestid" say
 * which belong together.
 */
export function serveForwards(carrier: Carrier, connectTo: Connect, tell: Tell): Forwards {
  const session = new SpdySession(carrier);
  const forwards = new Forwards(session, connectTo);
  const pairs = new Map<string, Pair>();

  const forget = (id: string, pair: Pair): void => {
    clearTimeout(pair.timer);
    if (pairs.get(id) === pair) pairs.delete(id);
  };
  const giveUp = (id: string, pair: Pair): void => {
    forget(id, pair);
    if (pair.forward !== null) forwards.drop(pair.forward);
    for (const stream of [pair.data, pair.error]) stream?.reset(StreamStatus.cancel);
  };
  const openPair = (id: string, port: number): Pair => {
    const timer = setTimeout(() => giveUp(id, pair), pairMs);
    const pair: Pair = { port, data: null, error: null, forward: null, timer };
    pairs.set(id, pair);
    return pair;
  };
  const onData = (id: string, pair: Pair, stream: SpdyStream): void => {
    const forward = forwards.open(stream, (problem) => {
      forget(id, pair);
      if (problem !== "") writeText(pair.error, tell(pair.port, problem));
      stream.end();
      pair.error?.end();
    });
    pair.data = stream;
    pair.forward = forward;
    stream.onData = (bytes) => forward.write(bytes);
    stream.onEnd = () => forward.end();
    stream.onReset = () => {
      forwards.drop(forward);
      forget(id, pair);
      pair.error?.end();
    };
  };
  session.onStream = (stream) => {
    const { headers } = stream;
    const type = headers.get("streamtype");
    const port = Number(headers.get("port"));
    if ((type !== "data" && type !== "error") || !isPort(port)) return false;
    // clients before Kubernetes 1.1 open the error's stream first, and then the data's
    const id = headers.get("requestid") ?? String(type === "error" ? stream.id : stream.id - 2);
    const pair = pairs.get(id) ?? openPair(id, port);
    if (pair.port !== port || pair[type] !== null) return false;
    if (type === "data") onData(id, pair, stream);
    else pair.error = stream;
    if (pair.data === null || pair.error === null || pair.forward === null) return true;
    clearTimeout(pair.timer);
    forwards.connect(pair.forward, port);
    return true;
  };
  session.onDrain = () => forwards.drained();
  session.onClosed = () => {
    for (const { timer } of pairs.values()) clearTimeout(timer);
    forwards.dropAll();
  };
  return forwards;
}

/** Two channels for each port, which begin with its number: one for data, one for an error. One connection to each port. */
function serveChannels(
  carrier: Carrier,
  protocol: string,
  ports: readonly number[],
  connectTo: Connect,
  tell: Tell,
): Forwards {
  const forwards = new Forwards(carrier, connectTo);
  const connection = new ChannelConnection(carrier, protocol, {
    data: (channel, content) => {
      if (channel % 2 === 0) all[channel / 2]?.write(content);
    },
    end: () => undefined,
  });
  if (ports.length === 0) connection.close(CloseCode.protocolError, "port: none was asked for");
  let open = ports.length;
  const all = ports.map((port, index) => {
    const [data, error] = [2 * index, 2 * index + 1];
    const number = Uint8Array.of(port & 0xff, port >> 8);
    connection.sendBytes(data, number);
    connection.sendBytes(error, number);
    const outlet = {
      write: (buffer: Buffer, end: number) => connection.send(data, buffer, end),
      // the end of one channel cannot be told; neither can the client tell its own
      end: () => forward.end(),
    };
    const forward = forwards.open(outlet, (problem) => {
      if (problem !== "") connection.sendBytes(error, Buffer.from(tell(port, problem)));
      open--;
      if (open === 0) connection.close(CloseCode.normal, "");
    });
    return forward;
  });
  carrier.onDrain = () => forwards.drained();
  connection.onClosed = () => forwards.dropAll();
  for (const [index, forward] of all.entries()) forwards.connect(forward, ports[index] ?? 0);
  return forwards;
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65535;
}

function writeText(stream: SpdyStream | null, text: string): void {
  const bytes = Buffer.from(text);
  const buffer = Buffer.allocUnsafe(headroom + bytes.length);
  bytes.copy(buffer, headroom);
  stream?.write(buffer, buffer.length);
}
