/** An exec with its client: until the program has ended, or the client has gone. */
import type { Container } from "../../sandbox/container.js";
import { messageOf } from "../../sandbox/errors.js";
import { type StreamedExec, type StreamedExecOptions, startExec } from "../../sandbox/exec-in-container.js";
import type { SandboxNode } from "../../sandbox/node.js";
import type { ClientStreams } from "./client-streams.js";
import { WaitingClient } from "./serve-program.js";
import type { Outcome } from "./status.js";

export async function serveExec(
  node: SandboxNode,
  container: Container,
  options: StreamedExecOptions,
  client: ClientStreams,
): Promise<void> {
  const waiting = new WaitingClient(client);
  let exec: StreamedExec;
  try {
    exec = await startExec(node, container, options);
  } catch (error) {
    return client.finish({ error: messageOf(error) });
  }
  const program = waiting.wire(exec.streams, options.stdin, () => undefined);
  const outcome = exec.ended.then(
    (exitCode): Outcome => ({ exitCode }),
    (error): Outcome => ({ error: messageOf(error) }),
  );
  const leave = (): void => {
    // a terminal's session is hung up by this alone
    program.close();
    exec.hangUp();
  };
  if (waiting.gone) return leave();
  client.onGone = leave;
  const result = await outcome;
  program.whenPassed(() => {
    program.close();
    client.onGone = () => undefined;
    client.finish(result);
  });
  program.ended();
}
