/** A client at a container's own streams: until the container has ended, or the client goes. */
import { attachToContainer } from "../../sandbox/attach-to-container.js";
import type { Container } from "../../sandbox/container.js";
import { messageOf } from "../../sandbox/errors.js";
import type { ProgramStreams } from "../../sandbox/monitor-client.js";
import type { SandboxNode } from "../../sandbox/node.js";
import type { ClientStreams, WantedStreams } from "./client-streams.js";
import { WaitingClient, type WiredProgram } from "./serve-program.js";

/** By the monitor (native/monitor/attachment.cc), or with it. */
const cutOff =
  "cut off before the end of the output: nothing of it was taken for 10 seconds, or the pod's monitor has ended";

export async function serveAttach(
  node: SandboxNode,
  container: Container,
  wanted: WantedStreams,
  client: ClientStreams,
): Promise<void> {
  const waiting = new WaitingClient(client);
  let streams: ProgramStreams;
  try {
    streams = await attachToContainer(node, container, wanted);
  } catch (error) {
    return client.finish({ error: messageOf(error) });
  }
  const { stdin_once: once, tty } = container.config;
  let program: WiredProgram | null = null;
  const leave = (): void => {
    program?.close();
    client.onGone = () => undefined;
  };
  const finish = (): void => {
    leave();
    client.finish(program?.brokenOff() ? { error: cutOff } : { exitCode: 0 });
  };
  program = waiting.wire(streams, wanted.stdin, (by) => {
    // a program that reads no more may still have something to say
    if (by === "program") return;
    // as the other runtimes do: the end of the input is the end of the visit, unless it is the input's own end
    if (once && !tty) program?.main?.stream.endOutput();
    else if (wanted.stdin) finish();
  });
  client.onGone = leave;
  if (waiting.gone) return leave();
  program.whenPassed(finish);
}
