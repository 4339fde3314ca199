/**
 * Debian's firewalld with a bus of its own: for the rules that it writes. In the caller's network namespace, and with what the
 * caller's mount namespace has in /etc/firewalld.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { missingPrograms, startDaemon } from "./daemon.js";

export interface Firewalld {
  /** firewall-cmd's arguments */
  change(...args: string[]): void;
  stop(): Promise<void>;
}

/** A reason, or false. */
export function missingForFirewalld(): string | false {
  const missing = missingPrograms("firewalld", "firewall-cmd", "dbus-daemon");
  return missing.length > 0 && `${missing.join(", ")} not installed (Debian: firewalld, dbus)`;
}

export async function startFirewalld(): Promise<Firewalld> {
  const directory = mkdtempSync("/tmp/b-firewalld-");
  const socket = join(directory, "bus");
  const config = join(directory, "bus.conf");
  writeFileSync(
    config,
    `<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
      <policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
  );
  const env = { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${socket}` };
  const busArgs = [`--config-file=${config}`, "--nofork", "--nopidfile"];
  const bus = await startDaemon(directory, "dbus-daemon", busArgs, process.env, () => existsSync(socket));
  const answers = () => spawnSync("firewall-cmd", ["--state"], { env }).status === 0;
  const own = ["--nofork", "--nopid", "--log-target", "console"];
  const firewall = await startDaemon(directory, "firewalld", own, env, answers);
  return {
    change(...args) {
      execFileSync("firewall-cmd", args, { env });
    },
    async stop() {
      await firewall.stop();
      await bus.stop();
      rmSync(directory, { recursive: true });
    },
  };
}
