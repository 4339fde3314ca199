/** When plugins are called: real programs, without pods. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Observer } from "../../observer.js";
import type { NetworkLease } from "../provider.js";
import { CniNetwork } from "./cni-network.js";

const addon = { setLoopbackUp: async () => {}, unpinNamespace: async () => {}, listAddresses: async () => [] };
const pod = {
  name: "p",
  namespace: "n",
  uid: "u",
  annotations: {},
  dns: { servers: [], searches: [], options: [] },
  cgroupPath: "",
  netnsPath: "/nowhere/berth-p",
};
const result = { cniVersion: "1.1.0", ips: [{ address: "10.1.2.3/24" }] };

/** The plugins "first" and "second" do what the files "first-GC" and so on say, lines of shell. */
function host(t: TestContext) {
  const base = mkdtempSync(join(tmpdir(), "berth-cni-"));
  // a plugin that is asked beside the test may still be writing
  t.after(() => rmSync(base, { recursive: true, maxRetries: 50, retryDelay: 20 }));
  const at = (name: string) => join(base, name);
  for (const name of ["bin", "conf"]) mkdirSync(at(name));
  const script = `#!/bin/sh
base=${base}; name=\${0##*/}
cat > $base/stdin-$name-$CNI_COMMAND
echo "$CNI_COMMAND $name $CNI_CONTAINERID" | sed 's/ $//' >> $base/calls
[ $CNI_COMMAND != VERSION ] || echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}'
if [ -e $base/$name-$CNI_COMMAND ]; then . $base/$name-$CNI_COMMAND; fi
`;
  for (const name of ["first", "second"]) writeFileSync(at(`bin/${name}`), script, { mode: 0o755 });
  return {
    at,
    configure(list: Record<string, unknown> = {}) {
      const plugins = [{ type: "first" }, { type: "second" }];
      writeFileSync(at("conf/10.conflist"), JSON.stringify({ cniVersion: "1.1.0", name: "net", plugins, ...list }));
    },
    behave: (plugin: string, command: string, lines: string) => writeFileSync(at(`${plugin}-${command}`), lines),
    calls: () => (existsSync(at("calls")) ? readFileSync(at("calls"), "utf8").trim().split("\n") : []),
    given: (plugin: string, command: string) => JSON.parse(readFileSync(at(`stdin-${plugin}-${command}`), "utf8")),
    agent() {
      const troubles: string[] = [];
      const observer = new Observer();
      observer.subscribe((happening) => {
        if (happening.type === "trouble") troubles.push(`${happening.what}: ${String(happening.error)}`);
      });
      const network = new CniNetwork({
        addon,
        configurationDirectory: at("conf"),
        pluginDirectories: [at("bin")],
        cacheDirectory: at("cache"),
        removalsDirectory: at("removals"),
        observer,
      });
      return { network, troubles };
    },
  };
}

const attached = (lease: NetworkLease): NetworkLease =>
  lease.cni === undefined ? lease : { ...lease, cni: { ...lease.cni, result } };

async function until(what: string, is: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !is(); await sleep(10)) assert.ok(Date.now() < end, `never: ${what}`);
}

test("GC names the attachments to that network, and those that are being taken away; a plugin's error stops no other", async (t) => {
  const { configure, behave, calls, given, agent } = host(t);
  const { network, troubles } = agent();
  configure({ name: "other" });
  network.adopt("elsewhere", attached(network.reserve("elsewhere", [], pod)));
  configure();
  for (const id of ["stays", "goes"]) network.adopt(id, attached(network.reserve(id, [], pod)));
  behave("first", "DEL", "exit 1");
  behave("second", "GC", `echo '{"code": 11, "msg": "no"}'; exit 1`);
  await network.start();
  await network.detach("goes", attached(network.reserve("goes", [], pod)));
  await network.choose();
  await until("both were called", () => calls().filter((call) => call.startsWith("GC ")).length === 2);
  assert.deepEqual(
    calls().filter((call) => call.startsWith("GC ")),
    ["GC first", "GC second"],
  );
  for (const plugin of ["first", "second"]) {
    const { name, cniVersion, type, ...more } = given(plugin, "GC");
    assert.deepEqual([name, cniVersion, type], ["net", "1.1.0", plugin]);
    const valid = ["stays", "goes"].map((containerID) => ({ containerID, ifname: "eth0" }));
    assert.deepEqual(more["cni.dev/valid-attachments"], valid);
  }
  await until("it is told", () =>
    troubles.some((trouble) => /collect .*second GC failed \(code 11\): no/.test(trouble)),
  );
});

for (const [what, list, chosen] of [
  ["of a version before 1.1.0", { cniVersion: "1.0.0" }, true],
  ["that says disableGC", { disableGC: true }, true],
  ["that new pods do not come to: it may be another runtime's", {}, false],
] as const) {
  test(`GC is not called for a list ${what}`, async (t) => {
    const { configure, calls, agent } = host(t);
    configure(list);
    const { network } = agent();
    await network.start();
    if (chosen) await network.choose();
    await network.cleanUp();
    assert.deepEqual(
      calls().filter((call) => !/^(VERSION|STATUS) /.test(call)),
      [],
    );
    assert.equal(calls().length > 0, chosen);
  });
}

test("the network is not ready before its plugins have said so, also with a configuration that has just come", async (t) => {
  const { at, configure, behave, agent } = host(t);
  const { network } = agent();
  await network.start();
  await network.choose();
  assert.match((await network.status()).message, /there is no CNI network configuration/);
  behave("second", "STATUS", `echo '{"code": 50, "msg": "no controller"}'; exit 1`);
  configure();
  assert.deepEqual(await network.status(), {
    ready: false,
    reason: "NetworkPluginNotReady",
    message: "CNI plugin second STATUS failed (code 50): no controller",
  });
  behave("second", "STATUS", `echo '{"code": 51, "msg": "no controller"}'; exit 1`);
  configure({ disableCheck: true });
  assert.match((await network.status()).message, /\(code 51\): no controller; pods that run may have limited/);
  behave("second", "STATUS", "");
  configure({ disableCheck: false });
  assert.equal((await network.status()).ready, true);
  behave("second", "STATUS", "while [ ! -e $base/go ]; do sleep 0.05; done");
  configure({ disableCheck: true });
  assert.match((await network.status()).message, /the plugins of network net do not answer/);
  writeFileSync(at("go"), "");
});

test("CHECK is called once for a pod of an earlier agent, and DEL waits for its end", async (t) => {
  const { at, configure, behave, calls, agent } = host(t);
  const { network } = agent();
  configure({ disableCheck: true });
  network.adopt("unchecked", attached(network.reserve("unchecked", [], pod)));
  configure();
  const lease = attached(network.reserve("checked", [], pod));
  network.adopt("checked", lease);
  behave("second", "CHECK", "while [ ! -e $base/go ]; do sleep 0.02; done; echo checked >> $base/calls");
  await network.start();
  await until("CHECK runs", () => calls().includes("CHECK second checked"));
  const gone = network.detach("checked", lease);
  await sleep(100);
  writeFileSync(at("go"), "");
  await gone;
  await until("all was called", () => calls().includes("DEL first checked"));
  assert.deepEqual(calls(), [
    "CHECK first checked",
    "CHECK second checked",
    "checked",
    "DEL second checked",
    "DEL first checked",
  ]);
});

test("what an earlier agent has left running of a pod that comes or goes, and of GC, is ended; what a pod's ADD started stays", async (t) => {
  const { at, configure, agent } = host(t);
  configure();
  const { network } = agent();
  network.adopt("runs", attached(network.reserve("runs", [], pod)));
  network.adopt("came", network.reserve("came", [], pod));
  const started = Object.entries({
    daemon: { CNI_COMMAND: "ADD", CNI_CONTAINERID: "runs" },
    add: { CNI_COMMAND: "ADD", CNI_CONTAINERID: "came" },
    del: { CNI_COMMAND: "DEL", CNI_CONTAINERID: "runs" },
    gc: { CNI_COMMAND: "GC", BERTH_GC_OF: at("removals") },
    others: { CNI_COMMAND: "GC", BERTH_GC_OF: "/elsewhere" },
  }).map(([name, env]) => ({ name, child: spawn("/bin/sleep", ["1000"], { env }) }));
  t.after(() => started.forEach(({ child }) => void child.kill("SIGKILL")));
  await network.start();
  const left = () => started.filter(({ child }) => child.signalCode === null).map(({ name }) => name);
  await until("three have ended", () => left().length <= 2);
  assert.deepEqual(left(), ["daemon", "others"]);
});

test("records that are none are told and left alone, and so is what is no record", async (t) => {
  const { at, agent } = host(t);
  mkdirSync(at("removals"));
  const records = { a: "{", b: "null", c: "{}", d: '{"podId":"x"}', e: '{"podId":"e","netnsPath":"/x"}', f: "" };
  for (const [name, text] of Object.entries(records)) writeFileSync(at(`removals/${name}.json`), text);
  mkdirSync(at("removals/directory"));
  const { network, troubles } = agent();
  await network.start();
  assert.deepEqual(network.pendingRemovals(), []);
  assert.equal(troubles.length, 7, troubles.join("\n"));
});

test("a node is not ready without one of its plugins, whether it has been ready before or not", async (t) => {
  const { at, configure, agent } = host(t);
  configure({ cniVersion: "1.0.0" });
  const { network } = agent();
  await network.start();
  const missing = async () => (await network.status()).message;
  assert.equal(await missing(), "");
  t.mock.method(performance, "now", () => 1e9);
  rmSync(at("bin/second"));
  let message = "";
  // what was said before holds until they have been asked again
  for (const end = Date.now() + 20_000; message === "" && Date.now() < end; await sleep(10)) message = await missing();
  assert.match(message, /CNI plugin second is not in /);
});

test("what a plugin prints after it has taken a pod's network away means nothing, unless it is an error", async (t) => {
  const { configure, behave, agent } = host(t);
  configure();
  const { network, troubles } = agent();
  for (const [said, isPending] of [
    ["echo deleted", false],
    ["echo '{}'; echo '{}'", false],
    [`echo '{"code": 11, "msg": "later"}'`, true],
  ] as const) {
    behave("first", "DEL", said);
    const lease = network.reserve("pod", [], pod);
    network.adopt("pod", attached(lease));
    await network.detach("pod", lease);
    assert.equal(network.pendingRemovals().length > 0, isPending, said);
  }
  behave("first", "DEL", "");
  await network.cleanUp();
  assert.deepEqual(network.pendingRemovals(), []);
  assert.equal(troubles.length, 1);
});

test("pods come and go where libcni's cache cannot be written", async (t) => {
  const { at, configure, behave, agent } = host(t);
  configure();
  behave("second", "ADD", `echo '${JSON.stringify(result)}'`);
  behave("first", "ADD", `echo '${JSON.stringify(result)}'`);
  writeFileSync(at("cache"), "");
  const { network, troubles } = agent();
  const lease = await network.attach("pod", network.reserve("pod", [], pod), { namespaceFd: -1 });
  assert.deepEqual(lease.addresses, ["10.1.2.3/24"]);
  await network.detach("pod", lease);
  assert.deepEqual(network.pendingRemovals(), []);
  assert.match(troubles.join(), /libcni's cache/);
});

test("a GC that hangs keeps pods for some seconds only, whatever the number of plugins is", async (t) => {
  const { configure, behave, agent, calls } = host(t);
  configure();
  for (const plugin of ["first", "second"]) {
    behave(plugin, "GC", "sleep 100");
    behave(plugin, "ADD", `echo '${JSON.stringify(result)}'`);
  }
  const { network, troubles } = agent();
  const collecting = network.cleanUp();
  await network.choose();
  await until("GC runs", () => calls().includes("GC first"));
  await network.attach("pod", network.reserve("pod", [], pod), { namespaceFd: -1 });
  await collecting;
  assert.match(troubles.join("\n"), /CNI plugin first GC was ended, because pods waited for it/);
  assert.ok(!calls().includes("GC second"));
});
