import assert from "node:assert/strict";
import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { native } from "./binding.js";
import { compileProgram, failure, openDescriptors, scratchDirectory, until } from "./test-support.js";

// Tells its arguments, its environment and its descriptors, then copies its input.
const teller = `
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int i = 1; i < argc; i++) printf("<%s>", argv[i]);
  printf(" environment %d descriptors", environ[0] != NULL);
  for (int fd = 0; fd < 1024; fd++) if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
  sigset_t blocked;
  sigprocmask(SIG_BLOCK, NULL, &blocked);
  printf(" blocked %d ignored %d\\n", sigismember(&blocked, SIGTERM), signal(SIGPIPE, SIG_DFL) == SIG_IGN);
  fflush(stdout);
  fprintf(stderr, "an error\\n");
  char buffer[4096];
  for (ssize_t n; (n = read(0, buffer, sizeof buffer)) > 0;) if (write(1, buffer, n) != n) return 3;
  return 7;
}
`;

async function start(t: TestContext, outputLimitBytes = 1 << 20) {
  const executable = await compileProgram(scratchDirectory(t), "teller", teller);
  return native.runProgram({ executable, args: ["a b", ""], outputLimitBytes });
}

test("a program gets its arguments, its input, and nothing else of the agent's; its output and code come back", async (t) => {
  const before = openDescriptors();
  const program = await start(t);
  writeSync(program.input, "hello\n");
  closeSync(program.input);
  const { code, signal, output, errors } = await program.ended;
  assert.equal(output.toString(), "<a b><> environment 0 descriptors 0 1 2 blocked 0 ignored 0\nhello\n");
  assert.deepEqual([code, signal, errors.toString()], [7, null, "an error\n"]);
  program.kill();
  program.setNice(5);
  await until("its descriptors are closed", () => openDescriptors() === before);
});

test("one that wants to die with its parent lives as long as it likes, and dies when it is killed", async (t) => {
  const program = await start(t);
  const pieces = 200;
  const piece = Buffer.alloc(10_000, 120);
  for (let i = 0; i < pieces; i++) {
    writeSync(program.input, piece);
    // other work of the addon's comes and goes on threads of its own
    await native.readFiles(["/proc/version"]);
  }
  program.kill();
  const { code, signal, output } = await program.ended;
  assert.deepEqual([code, signal], [null, 9]);
  assert.match(output.toString().slice(0, 8), /^<a b>/);
  closeSync(program.input);
});

test("one that is killed at once ends, too", async (t) => {
  const program = await start(t);
  program.kill();
  assert.equal((await program.ended).signal, 9);
  closeSync(program.input);
});

test("output beyond the limit is thrown away, and the program goes on to its end", async (t) => {
  const program = await start(t, 10);
  writeSync(program.input, Buffer.alloc(500_000));
  closeSync(program.input);
  const { code, output, errors } = await program.ended;
  assert.deepEqual([code, output.toString(), errors.toString()], [7, "<a b><> en", "an error\n"]);
});

test("a program that is not there is told with its path", async (t) => {
  const executable = join(scratchDirectory(t), "nothing");
  const program = native.runProgram({ executable, args: [], outputLimitBytes: 10 });
  closeSync(program.input);
  const error = await failure(() => program.ended);
  assert.deepEqual([error.syscall, error.errnoName, error.subject], ["execve", "ENOENT", executable]);
});
