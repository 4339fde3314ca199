/** The place of a listening unix socket on the disk. */
import { statSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { makeDirectories } from "./directories.js";
import { FailedPreconditionError } from "./errors.js";

/** A directory for the socket, and no socket of a program that is gone. @throws FailedPreconditionError: the place is taken */
export async function makeWayForSocket(path: string): Promise<void> {
  makeDirectories(dirname(path), 0o700);
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new FailedPreconditionError(`${path} is there and is no socket`);
  if (await somebodyListens(path)) throw new FailedPreconditionError(`another program listens on ${path}`);
  unlinkSync(path);
}

function somebodyListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", (error: NodeJS.ErrnoException) => settle(error.code !== "ECONNREFUSED"));
  });
}
