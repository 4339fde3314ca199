/** Lines as entries of systemd's journal, by its native protocol: a datagram for each (systemd.io/JOURNAL_NATIVE_PROTOCOL). */
import { type ByteStream, native, writable } from "../../native/binding.js";
import { messageOf } from "../../sandbox/errors.js";
import type { LogLine } from "./log-tail.js";
import { Backoff, type LogSource, type Sink, SinkRefusal } from "./sink.js";

/** What the journal itself takes for text and for errors, as other runtimes send them. */
const priorities = { stdout: "6", stderr: "3" } as const;

/**
 * @param onTrouble told when the journal is not there, and when it is again
 * @param signal nothing more is sent
 */
export function openJournald(path: string, onTrouble: (sentence: string) => void, signal: AbortSignal): Sink {
  let stream: ByteStream | null = null;
  let onRoom: (() => void)[] = [];
  let troubled = false;
  const close = (): void => {
    stream?.close();
    stream = null;
    tellRoom();
  };
  const tellRoom = (): void => {
    const waiting = onRoom;
    onRoom = [];
    for (const tell of waiting) tell();
  };
  const connect = async (): Promise<ByteStream> => {
    const backoff = new Backoff();
    while (stream === null) {
      try {
        const opened = new native.ByteStream(native.connectDatagram(path), () => {
          opened.listen(0);
          tellRoom();
        });
        stream = opened;
        if (troubled) onTrouble(`${path}: takes lines again`);
        troubled = false;
      } catch (error) {
        if (!troubled) onTrouble(`${path}: ${messageOf(error)}; what comes waits in the logs`);
        troubled = true;
        await backoff.wait(signal);
      }
    }
    return stream;
  };
  signal.addEventListener("abort", tellRoom, { once: true });
  const sendOne = async (entry: Buffer): Promise<void> => {
    // a journal that was started anew is found by the first entry that fails
    for (let failures = 0; failures < 3; ) {
      const journal = await connect();
      const count = journal.write(entry);
      if (count > 0) return;
      if (count < 0) {
        failures++;
        close();
        continue;
      }
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        onRoom.push(resolve);
        journal.listen(writable);
      });
    }
    throw new SinkRefusal(`${path}: an entry of ${entry.length} bytes is not taken`);
  };
  return {
    async send(source, lines) {
      const fields = fieldsOf(source);
      for (const line of lines) await sendOne(toEntry(fields, line));
    },
    async close() {
      close();
    },
  };
}

function fieldsOf(source: LogSource): Buffer {
  const texts: Record<string, string> = {
    SYSLOG_IDENTIFIER: source.container,
    CONTAINER_ID: source.containerId.slice(0, 12),
    CONTAINER_ID_FULL: source.containerId,
    CONTAINER_NAME: source.container,
    K8S_NAMESPACE_NAME: source.namespace,
    K8S_POD_NAME: source.pod,
    K8S_POD_UID: source.podUid,
    K8S_CONTAINER_NAME: source.container,
    K8S_CONTAINER_RESTART_COUNT: String(source.attempt),
  };
  return Buffer.concat(Object.entries(texts).map(([name, text]) => field(name, Buffer.from(text))));
}

export function toEntry(fields: Buffer, { time, stream, text, partial }: LogLine): Buffer {
  return Buffer.concat([
    field("MESSAGE", text),
    field("PRIORITY", Buffer.from(priorities[stream])),
    field("SYSLOG_TIMESTAMP", Buffer.from(time)),
    field("BERTH_STREAM", Buffer.from(stream)),
    ...(partial ? [field("CONTAINER_PARTIAL_MESSAGE", Buffer.from("true"))] : []),
    fields,
  ]);
}

/** With its length, so that it may hold whatever a container writes: no line of it can become a field of its own. */
function field(name: string, content: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(content.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, content, Buffer.from("\n")]);
}
