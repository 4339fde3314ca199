/** The thread that a module of the administrator's runs in: what it does there cannot hold the agent up. */
import { pathToFileURL } from "node:url";
import { parentPort, workerData } from "node:worker_threads";
import { messageOf } from "../../sandbox/errors.js";
import type { Answer, Question, SpecHook } from "./spec-hook.js";

const { path } = workerData as { path: string };
const { default: adjust } = (await import(pathToFileURL(path).href)) as { default?: SpecHook };

parentPort?.on("message", ({ id, spec, subject }: Question) => {
  const answered = async (): Promise<Answer> => {
    if (typeof adjust !== "function") throw new Error("it has no default export that is a function");
    return { id, spec: (await adjust(spec, subject)) ?? spec };
  };
  answered()
    .catch((error: unknown): Answer => ({ id, error: messageOf(error) }))
    .then((answer) => parentPort?.postMessage(answer))
    // what cannot be sent is no JSON
    .catch((error: unknown) => parentPort?.postMessage({ id, error: messageOf(error) }));
});
