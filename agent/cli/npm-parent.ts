const lookMs = 500;

/**
 * `npx berth` puts npm and a shell between the caller and the command. A SIGTERM to npm ends those two, and the shell
 * passes nothing on: the agent, or a program in the foreground, takes the loss of its parent for the signal.
 */
export function endWithNpm(): void {
  if (process.env["npm_command"] !== "exec") return;
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, "SIGTERM");
  }, lookMs).unref();
}
