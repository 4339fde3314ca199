/** Calls to systemd's manager object over the system bus (org.freedesktop.systemd1(5)), over a connection that is made anew when it is lost. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Message, MessageBus, Variant } from "@particle/dbus-next";
import { UnavailableError } from "../../errors.js";

const busAddress = "unix:path=/run/dbus/system_bus_socket";
const destination = "org.freedesktop.systemd1";
const managerPath = "/org/freedesktop/systemd1";
const managerInterface = "org.freedesktop.systemd1.Manager";
/** systemd answers in a millisecond; a reload of hundreds of units, in which it does not, takes seconds */
const callTimeoutMs = 25_000;
/** How long a systemd that executes itself anew, or a bus that restarts, is waited for. */
const awayMs = 5_000;
/** What the bus answers for a systemd that is just away. */
const awayErrors = ["Disconnected", "NameHasNoOwner", "NoReply", "ServiceUnknown"].map(
  (name) => `org.freedesktop.DBus.Error.${name}`,
);

/** A property of a unit: its name and its value with the D-Bus type. */
export type Property = [name: string, value: Variant];

export interface ManagerBus {
  /**
   * The answer's arguments. A call that got none is made again, so it may have been carried out already. DBusError: systemd's
   * own; UnavailableError: nobody answers on the bus.
   */
  call(member: string, signature: string, ...body: unknown[]): Promise<unknown[]>;
  /** A property of a unit's, which systemd loads when it has not. */
  unitProperty(unit: string, name: string): Promise<unknown>;
  /** Each end of a job: the unit's name and the result ("done", "failed", ...). */
  onJobRemoved(listener: (unit: string, result: string) => void): void;
}

interface Connection {
  bus: MessageBus;
  /** rejects when the connection is lost */
  lost: Promise<never>;
}

/** Nothing is connected before the first call. The library is loaded here, by agents that have use for it. */
export async function openManagerBus(): Promise<ManagerBus> {
  const { Message, sessionBus } = await loadLibrary();
  const listeners: ((unit: string, result: string) => void)[] = [];
  let connection: Connection | undefined;

  const heard = (message: Message): void => {
    if (message.interface !== managerInterface || message.member !== "JobRemoved") return;
    const [, , unit, result] = message.body as [number, string, string, string];
    for (const listener of listeners) listener(unit, result);
  };

  function connect(): Connection {
    const bus = sessionBus({ busAddress });
    const lost = new Promise<never>((_, reject) => {
      bus.on("error", (error: unknown) => {
        if (connection?.bus === bus) connection = undefined;
        reject(new UnavailableError(`systemd cannot be reached over ${busAddress}`, { cause: error }));
      });
    });
    lost.catch(() => undefined);
    bus.on("message", heard);
    connection = { bus, lost };
    return connection;
  }

  async function send({ bus, lost }: Connection, fields: ConstructorParameters<typeof Message>[0]): Promise<unknown[]> {
    const late = new AbortController();
    const timeout = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => {
        // what does not answer is not asked again
        bus.emit("error", new Error(`${fields.member} was not answered in ${callTimeoutMs / 1000} s`));
        reject(new UnavailableError(`systemd has not answered ${fields.member} in ${callTimeoutMs / 1000} s`));
      }, callTimeoutMs);
      late.signal.addEventListener("abort", () => clearTimeout(timer));
    });
    try {
      return (await Promise.race([bus.call(new Message(fields)), lost, timeout]))?.body ?? [];
    } finally {
      late.abort();
    }
  }

  /** A connection whose other end hears about jobs. */
  async function connected(): Promise<Connection> {
    if (connection !== undefined) return connection;
    const made = connect();
    const rule = `type='signal',sender='${destination}',interface='${managerInterface}',member='JobRemoved'`;
    await send(made, {
      destination: "org.freedesktop.DBus",
      path: "/org/freedesktop/DBus",
      interface: "org.freedesktop.DBus",
      member: "AddMatch",
      signature: "s",
      body: [rule],
    });
    await send(made, { destination, path: managerPath, interface: managerInterface, member: "Subscribe" });
    return made;
  }

  async function call(member: string, signature: string, ...body: unknown[]): Promise<unknown[]> {
    const message = { destination, path: managerPath, interface: managerInterface, member, signature, body };
    for (const until = performance.now() + awayMs; ; await sleep(50)) {
      try {
        return await send(await connected(), message);
      } catch (error) {
        if (!isAway(error) || performance.now() > until) throw error;
      }
    }
  }

  return {
    call,

    async unitProperty(unit, name) {
      const [path] = await call("LoadUnit", "s", unit);
      const [value] = await send(await connected(), {
        destination,
        path: String(path),
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        signature: "ss",
        body: ["org.freedesktop.systemd1.Unit", name],
      });
      return (value as Variant).value;
    },

    onJobRemoved: (listener) => void listeners.push(listener),
  };
}

function isAway(error: unknown): boolean {
  return error instanceof UnavailableError || awayErrors.some((type) => isDbusError(error, type));
}

/** Whether it is the bus's or systemd's error of this name. */
export function isDbusError(error: unknown, type: string): boolean {
  return error instanceof Error && "type" in error && error.type === type;
}

/** CommonJS, whose names an import of the module does not show. */
async function loadLibrary(): Promise<typeof import("@particle/dbus-next")> {
  return (await import("@particle/dbus-next")).default as unknown as typeof import("@particle/dbus-next");
}
