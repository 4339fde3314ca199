/** `berth cp`: there and back, and against containers that lay links. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, out, type RunningPod, runContainer, runPod, sh } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

let agent: TestAgent;
let pod: RunningPod;
let id: string;
let host: string;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  id = await runContainer(agent, pod);
  host = mkdtempSync("/tmp/b-cp-");
});

after(async () => {
  rmSync(host, { recursive: true });
  await agent.stop();
});

/** Answers what it says on standard error; "" when all is well. */
function cp(...args: string[]): Promise<string> {
  const env = { ...process.env, BERTH_SOCKET: agent.socket };
  return new Promise((resolve) => {
    execFile(process.execPath, [program, "cp", ...args], { env, cwd: host }, (_error, _stdout, stderr) =>
      resolve(stderr),
    );
  });
}

test("files and trees, there and back: contents, modes, links, and names that are no text", async () => {
  const tree = join(host, "tree");
  mkdirSync(join(tree, "sub"), { recursive: true });
  const content = Buffer.alloc(3_000_000, "0123456789abcdef-");
  writeFileSync(join(tree, "sub", "large"), content);
  writeFileSync(join(tree, "tool"), "#!/bin/sh\necho it runs\n");
  chmodSync(join(tree, "tool"), 0o4755);
  symlinkSync("sub/large", join(tree, "link"));
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0x41])]), "bytes");
  assert.equal(await cp("tree", `${id}:/tmp`), "");
  assert.equal(
    await out(agent, id, "/tmp/tree/tool; readlink /tmp/tree/link; cat /tmp/tree/*A"),
    "it runs\nsub/large\nbytes",
  );
  assert.equal((await out(agent, id, "stat -c '%a %u' /tmp/tree/tool")).trim(), "755 0");
  assert.equal(await cp(`${id}:/tmp/tree`, "back"), "");
  assert.ok(readFileSync(join(host, "back/sub/large")).equals(content));
  assert.equal(readlinkSync(join(host, "back/link")), "sub/large");
  assert.equal(readdirSync(join(host, "back")).length, 4);
  assert.equal(lstatSync(join(host, "back/tool")).mode & 0o7777, 0o755);
  // over what is there, by another name, and into a mount of the container's
  writeFileSync(join(host, "one"), "short");
  assert.equal(await cp("one", `${id}:/tmp/tree/sub/large`), "");
  assert.equal(await cp("one", `${id}:/dev/shm/two`), "");
  assert.equal(await out(agent, id, "cat /tmp/tree/sub/large /dev/shm/two"), "shortshort");
  assert.equal(await cp(`${id}:/dev/shm`, "shm"), "");
  assert.deepEqual(readdirSync(join(host, "shm")), ["two"]);
});

test("holes stay holes, and files of several names stay one, in both directions and when they are copied again", async () => {
  const tree = join(host, "disk");
  mkdirSync(join(tree, "sub"), { recursive: true });
  mkdirSync(join(host, "disks"));
  const size = 40 * 2 ** 30;
  const image = openSync(join(tree, "image"), "w");
  writeSync(image, "first", 0);
  writeSync(image, "middle", size / 2);
  ftruncateSync(image, size);
  closeSync(image);
  writeFileSync(join(tree, "hole"), "");
  truncateSync(join(tree, "hole"), 2 ** 30);
  linkSync(join(tree, "image"), join(tree, "sub", "again"));
  linkSync(join(tree, "image"), Buffer.concat([Buffer.from(`${tree}/sub/`), Buffer.from([0xff])]));
  writeFileSync(join(tree, "alone"), "one name");
  // the second time over what is there
  for (let round = 0; round < 2; round++) {
    assert.equal(await cp("disk", `${id}:/tmp`), "");
    const names = "cd /tmp/disk; stat -c '%i %h %s %b' image sub/again sub/?; stat -c '%h %s %b' hole alone";
    const [first, again, odd, hole, alone] = (await out(agent, id, names)).split("\n");
    assert.deepEqual([again, odd], [first, first]);
    assert.match(first ?? "", new RegExp(` 3 ${size} \\d{1,3}$`));
    assert.match(hole ?? "", new RegExp(`^1 ${2 ** 30} \\d{1,2}$`));
    assert.match(alone ?? "", /^1 8 /);
    assert.equal(await cp(`${id}:/tmp/disk`, "disks"), "");
    const { ino, nlink, blocks } = statSync(join(host, "disks/disk/image"));
    assert.deepEqual([statSync(join(host, "disks/disk/sub/again")).ino, nlink], [ino, 3]);
    assert.ok(blocks < 1000, `${blocks} blocks`);
  }
  const back = openSync(join(host, "disks/disk/sub/again"), "r");
  const part = Buffer.alloc(7);
  readSync(back, part, 0, 7, size / 2);
  closeSync(back);
  assert.equal(part.toString(), "middle\0");
});

test("what is copied over a file of several names leaves the other names alone; what is mounted stays so", async () => {
  const tree = join(host, "names");
  mkdirSync(tree);
  writeFileSync(join(tree, "a"), "both");
  linkSync(join(tree, "a"), join(tree, "b"));
  assert.equal(await cp("names", `${id}:/tmp`), "");
  rmSync(join(tree, "b"));
  writeFileSync(join(tree, "b"), "its own");
  assert.equal(await cp("names", `${id}:/tmp`), "");
  assert.equal(await out(agent, id, "cat /tmp/names/a /tmp/names/b"), "bothits own");
  const volume = join(host, "volume");
  writeFileSync(volume, "of the volume");
  linkSync(volume, join(host, "volume-too"));
  const mounts = [{ host_path: volume, container_path: "/tmp/mounted" }];
  const other = await runContainer(agent, pod, { ...sh("sleep 1000"), mounts });
  assert.equal(await cp("names/b", `${other}:/tmp/mounted`), "");
  assert.equal(readFileSync(join(host, "volume-too"), "utf8"), "its own");
  assert.match(await out(agent, other, "grep /tmp/mounted /proc/mounts"), /mounted/);
});

test("files of the kernel's, which have no size, are copied whole", async () => {
  assert.equal(await cp(`${id}:/proc/1/status`, "status"), "");
  assert.match(readFileSync(join(host, "status"), "utf8"), /^Name:.*^Pid:/ms);
  assert.equal(await cp(`${id}:/sys/kernel/mm/transparent_hugepage/enabled`, "enabled"), "");
  assert.match(readFileSync(join(host, "enabled"), "latin1"), /^[a-z[\] ]+\n$/);
});

test("mistakes are told", async () => {
  assert.match(await cp("one", "two"), /CONTAINER:PATH/);
  assert.match(await cp(`${id}:/no/such`, "x"), /no\/such|ENOENT/);
  assert.match(await cp("not-there", `${id}:/tmp`), /not-there/);
  assert.match(await cp("one", `${"f".repeat(64)}:/tmp`), /ffff/);
  assert.match(await cp(`${id}:/dev/null`, "null"), /left out/);
  assert.equal(existsSync(join(host, "null")), false);
});

test("links of a container lead nowhere outside of it", async () => {
  const victim = join(host, "victim");
  mkdirSync(victim);
  writeFileSync(join(victim, "secret"), "of the host");
  writeFileSync(join(host, "gift"), "for the container");
  await out(
    agent,
    id,
    `mkdir /evil; ln -s ${victim} /evil/dir; ln -s ${victim}/secret /evil/file; ln -s /proc/1/root /evil/proc`,
  );
  // into it: by a directory that is a link, and by a file that is one
  assert.match(await cp("gift", `${id}:/evil/dir/secret`), /ENOENT|no such/i);
  assert.match(await cp("gift", `${id}:/evil/proc/secret`), /ELOOP|link/i);
  assert.notEqual(await cp("gift", `${id}:/evil/file`), "");
  // out of it: links as links
  assert.equal(await cp(`${id}:/evil`, "evil"), "");
  assert.equal(lstatSync(join(host, "evil/file")).isSymbolicLink(), true);
  // and again over them, where the container has put directories and files in their place
  await out(agent, id, "rm /evil/dir /evil/file; mkdir /evil/dir; echo x > /evil/dir/secret; echo x > /evil/file");
  assert.match(await cp(`${id}:/evil`, "."), /ENOTDIR|ELOOP|EEXIST/);
  assert.equal(readFileSync(join(victim, "secret"), "utf8"), "of the host");
  assert.deepEqual(readdirSync(victim), ["secret"]);
});

test("a container that swaps a directory for a link while it is copied into", async () => {
  const victim = join(host, "raced");
  mkdirSync(victim);
  const swapper = `mkdir -p /race/d; while :; do mv /race/d /race/x; ln -s ${victim} /race/d; rm /race/d; mv /race/x /race/d; done`;
  const racing = await runContainer(agent, pod, sh(swapper));
  mkdirSync(join(host, "many"));
  for (let file = 0; file < 300; file++) writeFileSync(join(host, "many", `f${file}`), "x");
  for (let file = 0; file < 300; file += 3) linkSync(join(host, "many", `f${file}`), join(host, "many", `link${file}`));
  for (let round = 0; round < 4; round++) await cp("many", `${racing}:/race/d`);
  assert.deepEqual(readdirSync(victim), []);
});
