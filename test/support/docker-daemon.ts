/** Debian's docker.io, on private paths: for the rules that it writes. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { missingPrograms, startDaemon } from "./daemon.js";

export interface Docker {
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A reason, or false. */
export function missingForDocker(): string | false {
  const missing = missingPrograms("dockerd", "containerd");
  return missing.length > 0 && `${missing.join(", ")} not installed (Debian: docker.io)`;
}

export async function startDocker(): Promise<Docker> {
  const directory = mkdtempSync("/tmp/b-docker-");
  const socket = `unix://${join(directory, "docker.sock")}`;
  const below = (name: string) => join(directory, name);
  const config = below("daemon.json");
  writeFileSync(config, "{}");
  const args = [
    ...["--host", socket, "--data-root", below("data"), "--exec-root", below("exec"), "--pidfile", below("pid")],
    ...["--config-file", config, "--storage-driver", "vfs"],
  ];
  const answers = () => spawnSync("docker", ["--host", socket, "version"]).status === 0;
  const start = () => startDaemon(directory, "dockerd", args, process.env, answers);
  let daemon = await start();
  return {
    async restart() {
      await daemon.stop();
      daemon = await start();
    },
    async stop() {
      await daemon.stop();
      execFileSync("rm", ["-rf", directory]);
    },
  };
}
