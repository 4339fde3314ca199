/** What a container, or a layer, has changed of what is below. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { runArchiveProgram } from "../../sandbox/rootfs/read-archive.js";
import { rootChanges } from "../../sandbox/rootfs/root-changes.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { busyboxName, importBusybox, out, type RunningPod, runContainer, runPod } from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

describe("berth diff", () => {
  let agent: TestAgent;
  let pod: RunningPod;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent, busyboxName, {
      layers: [[{ path: "data/old/one", content: "1" }], [{ path: "data/two" }]],
    });
    pod = await runPod(agent);
  });
  after(() => agent.stop());

  const diff = async (id: string, ...args: string[]): Promise<string> => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    return (await run(process.execPath, [program, "diff", id, ...args], { env })).stdout;
  };

  it("tells what was added, changed and deleted, each after its directory", async () => {
    const id = await runContainer(agent, pod, {});
    assert.equal(await diff(id), "");
    const changes = `
      echo x > /etc/new; rm /etc/group; chmod 600 /etc/passwd
      mkdir -p /added/deep; touch /added/deep/file; ln -s nowhere /added/link
      rm -r /data/old; mkdir /data/old; echo again > /data/old/again
      rm -r /home/app; rm /bin/yes; mkdir /bin/yes
      : >> /data/two
      mkdir /tmp/gone; rmdir /tmp/gone; chmod 700 /root
      touch "/tmp/$(printf 'n\\377\\nm')"`;
    await out(agent, id, changes);
    const told = await diff(id);
    assert.deepEqual(told.split("\n"), [
      "A /added",
      "A /added/deep",
      "A /added/deep/file",
      "A /added/link",
      "C /bin",
      "C /bin/yes",
      "C /data",
      "C /data/old",
      "A /data/old/again",
      "D /data/old/one",
      "C /data/two",
      "C /etc",
      "D /etc/group",
      "A /etc/new",
      "C /etc/passwd",
      "C /home",
      "D /home/app",
      "C /root",
      "C /tmp",
      "A /tmp/n\ufffd",
      "m",
      "",
    ]);
    const json = JSON.parse(await diff(id, "--json"));
    assert.deepEqual(json[0], { kind: "A", path: "/added" });
    assert.equal(json.length, 20);
    await assert.rejects(diff("nosuchcontainer"), /nosuchcontainer/);
  });

  it("gives a pod with ids of its own the same", async (context) => {
    const { runtime_handlers } = await agent.client.call("Status", {});
    if (!runtime_handlers[0]?.features?.user_namespaces) return context.skip("the kernel cannot idmap overlay layers");
    const [userns, length] = [{ mode: 0, uids: [], gids: [] }, 65_536];
    const mapping = [{ host_id: 1_000_000, container_id: 0, length }];
    const options = { userns_options: { ...userns, uids: mapping, gids: mapping } };
    const owned = await runPod(agent, { linux: { security_context: { namespace_options: options } } });
    const id = await runContainer(agent, owned, {});
    await out(agent, id, "echo x > /etc/new; chown app /data/two");
    assert.equal(await diff(id), "C /data\nC /data/two\nC /etc\nA /etc/new\n");
  });

  it("does not wait for, follow or remember much of what a container makes", async () => {
    const id = await runContainer(agent, pod, {});
    await out(agent, id, "mkfifo /pipe; ln -s / /tmp/root; mknod /tmp/n c 1 3; cd /tmp; seq 1 20000 | xargs touch");
    const told = (await diff(id)).trimEnd().split("\n");
    assert.deepEqual(told.slice(0, 2), ["A /pipe", "C /tmp"]);
    assert.equal(told.length, 2 + 20_002);
  });
});

describe("whole trees", () => {
  const base = mkdtempSync(join(tmpdir(), "berth-whole-"));
  const [lower, upper] = [join(base, "lower"), join(base, "upper")];
  const { signal } = new AbortController();
  before(() => {
    mkdirSync(lower);
    const script = `cd ${lower}; mkdir same gone touched; echo 1 > same/file; echo 1 > gone/file; echo 1 > touched/file
      echo old > sly; ln -s a link; echo 1 > type; echo 1 > owner; mkfifo pipe
      cp -a ${lower} ${upper}; cd ${upper}; rm -r gone type link; mkdir type; echo 1 > type/file; ln -s b link
      echo new > sly; touch -r ${lower}/sly sly; chown 5 owner; echo 2 > touched/two; ln touched/two touched/three`;
    execFileSync("sh", ["-c", script]);
  });
  after(() => rmSync(base, { recursive: true }));

  it("are compared by what their files look like", async () => {
    const told: string[] = [];
    for await (const piece of rootChanges({ upper, lower: [lower], whole: true }, signal)) {
      for (const { kind, path } of piece) told.push(`${kind} ${path}`);
    }
    assert.deepEqual(told, [
      "deleted gone",
      "changed link",
      "changed touched",
      "added touched/three",
      "added touched/two",
      "changed type",
      "added type/file",
    ]);
  });

  it("become the layer that lies between them, by their content, too", async () => {
    const path = join(base, "layer.tar.gz");
    const fd = openSync(path, "w");
    const args = ["pack", "--directory", upper, "--lower", lower];
    await runArchiveProgram(args, ["ignore", "pipe", "pipe", fd], "the tree", signal);
    closeSync(fd);
    const list = execFileSync("tar", ["-tzf", path], { encoding: "utf8" });
    assert.deepEqual(list.trimEnd().split("\n"), [
      ...["./", ".wh.gone", "link", "owner", "sly"],
      ...["touched/", "touched/three", "touched/two", "type/", "type/file"],
    ]);
  });
});
