/** CNI plugins that do what plugins should not: a shell script that does as a file tells it. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import { fails, importBusybox, podStatus, removePod, runContainer, runPod } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const result =
  '{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.9.8.7/24", "interface": 0}]}';

describe("with plugins that misbehave", () => {
  let agent: TestAgent;

  const at = (name: string) => join(agent.paths.base, name);
  /** What the plugin does for a command; a line of shell. */
  const behave = (command: string, script: string) => writeFileSync(at(`plugin-${command}`), `${script}\n`);
  const calls = () => (existsSync(at("calls")) ? readFileSync(at("calls"), "utf8").trim().split("\n") : []);
  const until = async (what: string, is: () => boolean | Promise<boolean>) => {
    for (const end = Date.now() + 20_000; !(await is()); await sleep(20)) assert.ok(Date.now() < end, `never: ${what}`);
  };
  const removals = async () => (await agent.client.call("ListNetworkRemovals", {})).removals;

  before(async () => {
    agent = await startAgent({ flags: { network: "cni" } });
    await importBusybox(agent);
    const script = [
      "#!/bin/sh",
      `base=${agent.paths.base}`,
      'echo "$CNI_COMMAND $CNI_CONTAINERID" >> $base/calls',
      // of several at once each looks at what it was given itself
      'given=$(cat); echo "$given" > "$base/stdin-$CNI_COMMAND"',
      'if [ -e "$base/plugin-$CNI_COMMAND" ]; then . "$base/plugin-$CNI_COMMAND"; fi',
    ];
    writeFileSync(join(agent.paths.cni.bin, "odd"), `${script.join("\n")}\n`, { mode: 0o755 });
    writeFileSync(
      join(agent.paths.cni.conf, "10-odd.conflist"),
      JSON.stringify({
        cniVersion: "1.1.0",
        name: "odd",
        plugins: [{ type: "odd", capabilities: { portMappings: true } }],
      }),
    );
  });
  after(() => agent.stop());
  beforeEach(() => {
    for (const command of ["DEL", "CHECK", "GC", "STATUS"]) rmSync(at(`plugin-${command}`), { force: true });
    behave("VERSION", `echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}'`);
    behave("ADD", `echo '${result}'`);
  });

  for (const [what, script, sentence] of [
    ["garbage", "echo hello", /CNI plugin odd ADD printed what is no JSON/],
    ["two results", `echo '${result}'; echo '${result}'`, /no JSON/],
    ["nothing", "", /printed no result/],
    ["an error and code 0", `echo '{"code": 11, "msg": "try again later"}'`, /code 11\): try again later/],
    ["a MAC that is none", `echo '{"interfaces": [{"name": "eth0", "mac": {}}]}'`, /interfaces\[0\]\.mac/],
    ["nothing but its death", "kill -9 $$", /ended by SIGKILL/],
    ["no address", `echo '{"cniVersion": "1.1.0", "ips": []}'`, /network odd gave the pod no address/],
    ["an address of nobody", `echo '{"ips": [{"address": "0.0.0.0/0"}]}'`, /gave the pod 0\.0\.0\.0\/0, which no pod/],
    [
      "an address that is none",
      `echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.3/99"}]}'`,
      /ips\[0\]\.address/,
    ],
  ] as const) {
    it(`an ADD that prints ${what} fails the pod; DEL is called, and nothing is left`, async () => {
      behave("ADD", script);
      rmSync(at("calls"), { force: true });
      await fails(runPod(agent), "INTERNAL", sentence);
      const [add, del] = calls().filter((call) => /^(ADD|DEL) /.test(call));
      assert.equal(del, add?.replace("ADD", "DEL"));
      await agent.assertNothingLeft();
    });
  }

  it("a host port is one pod's, on an address of this host; a pod whose name would be an argument is refused", async () => {
    const port = { host_port: 20_080, container_port: 80 };
    const first = await runPod(agent, { port_mappings: [port] });
    const { runtimeConfig } = JSON.parse(readFileSync(at("stdin-ADD"), "utf8"));
    assert.deepEqual(runtimeConfig.portMappings, [
      { hostPort: 20_080, containerPort: 80, protocol: "tcp", hostIP: "" },
    ]);
    rmSync(at("calls"));
    const held = new RegExp(`host port tcp/20080 is held by pod sandbox ${first.id}`);
    await fails(runPod(agent, { port_mappings: [port] }), "FAILED_PRECONDITION", held);
    const elsewhere = { ...port, host_port: 20_081, host_ip: "192.0.2.1" };
    await fails(
      runPod(agent, { port_mappings: [elsewhere] }),
      "INVALID_ARGUMENT",
      /192\.0\.2\.1 is no address of this/,
    );
    const odd = { name: "web;K8S_POD_NAMESPACE=kube-system", namespace: "default", uid: "odd", attempt: 0 };
    await fails(runPod(agent, { metadata: odd }), "INVALID_ARGUMENT", /metadata\.name is "web;K8S.*CNI_ARGS/);
    assert.deepEqual(
      calls().filter((call) => call.startsWith("ADD")),
      [],
    );
    await removePod(agent, first);
    const second = await runPod(agent, { port_mappings: [port] });
    await agent.restart();
    await fails(runPod(agent, { port_mappings: [port] }), "FAILED_PRECONDITION", /tcp\/20080 is held/);
    await removePod(agent, second);
    await agent.assertNothingLeft();
  });

  it("DEL has the result of ADD, whatever became of the configuration", async () => {
    const pod = await runPod(agent);
    assert.equal((await podStatus(agent, pod.id)).network?.ip, "10.9.8.7");
    await removePod(agent, pod);
    const { prevResult, name } = JSON.parse(readFileSync(at("stdin-DEL"), "utf8"));
    assert.deepEqual([prevResult, name], [JSON.parse(result), "odd"]);
    assert.deepEqual(await removals(), []);
  });

  it("of two interfaces of one name, the pod's is the one in its namespace; an address that is told twice is one", async () => {
    const ips = [1, 1, 0].map((index) => ({ address: `10.9.8.${7 + index}/24`, interface: index }));
    const sandboxes = ["/run/netns/of-another", "'$CNI_NETNS'"];
    const interfaces = sandboxes.map((sandbox) => ({ name: "eth0", sandbox }));
    behave("ADD", `echo '${JSON.stringify({ cniVersion: "1.1.0", interfaces, ips })}'`);
    const pod = await runPod(agent);
    const { network } = await podStatus(agent, pod.id);
    assert.deepEqual([network?.ip, network?.additional_ips], ["10.9.8.8", []]);
    await removePod(agent, pod);
  });

  it("a DEL that fails keeps neither pod nor cgroup; it is tried again, also by the next agent, until it succeeds", async () => {
    const pod = await runPod(agent);
    await runContainer(agent, pod);
    behave("DEL", `echo '{"code": 11, "msg": "the switch is away"}'; exit 1`);
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    const scope = { run: agent.paths.run, cgroupRoot: agent.cgroupRoot };
    assert.deepEqual([leftProcesses(scope), leftCgroups(agent.cgroupRoot)], [[], []]);
    const { items } = await agent.client.call("ListPodSandbox", {});
    assert.deepEqual(items, []);
    const [pending] = await removals();
    assert.deepEqual([pending?.pod_sandbox_id, pending?.network], [pod.id, "odd"]);
    assert.match(pending?.error ?? "", /the switch is away/);
    const scraped = await (await fetch(agent.metricsUrl)).text();
    assert.match(scraped, /^berth_network_removals_pending 1$/m);
    const collect = () => promisify(execFile)(program, ["network", "gc", "--socket", agent.socket]);
    await assert.rejects(collect(), (error: Error & { stdout?: string }) =>
      /the switch is away/.test(error.stdout ?? ""),
    );
    assert.ok(existsSync(join(agent.paths.netns, `berth-${pod.id}`)), "the plugin still needs the namespace");
    await agent.kill9();
    await agent.restart();
    assert.equal((await removals())[0]?.pod_sandbox_id, pod.id);
    rmSync(at("plugin-DEL"));
    assert.equal((await collect()).stdout, "");
    assert.deepEqual(await removals(), []);
    await agent.assertNothingLeft();
  });

  it("a mistake in the list fails ADD and DEL; what has piled up goes when the list is mended, and not by another list", async () => {
    const file = join(agent.paths.cni.conf, "10-odd.conflist");
    const list = readFileSync(file, "utf8");
    const otherwise = (changes: object) => writeFileSync(file, JSON.stringify({ ...JSON.parse(list), ...changes }));
    for (const command of ["ADD", "DEL"]) {
      const error = `echo '{"code": 7, "msg": "there is no such range"}'; exit 1`;
      behave(command, `case "$given" in *mistake*) ${error};; esac\n echo '${result}'`);
    }
    const collect = () => agent.client.call("CollectNetworkGarbage", {});
    try {
      otherwise({ plugins: [{ type: "odd", range: "mistake" }] });
      await fails(runPod(agent), "INTERNAL", /there is no such range/);
      await fails(runPod(agent), "INTERNAL", /there is no such range/);
      await collect();
      assert.equal((await removals()).length, 2);
      otherwise({ name: "other" });
      await collect();
      assert.deepEqual(
        (await removals()).map(({ network }) => network),
        ["odd", "odd"],
      );
    } finally {
      writeFileSync(file, list);
    }
    await collect();
    assert.deepEqual(await removals(), []);
    await agent.assertNothingLeft();
  });

  it("what a plugin that has gone cannot take away may be given up, by the beginning of the pod's id", async () => {
    const [one, two] = [await runPod(agent), await runPod(agent)];
    const plugin = join(agent.paths.cni.bin, "odd");
    renameSync(plugin, `${plugin}.away`);
    try {
      await removePod(agent, one);
      await removePod(agent, two);
      const gc = (...args: string[]) =>
        promisify(execFile)(program, ["network", "gc", ...args, "--socket", agent.socket]);
      await assert.rejects(gc("--give-up", "ffff"), /nothing of a pod "ffff" is to be taken away/);
      await assert.rejects(
        gc("--give-up", one.id.slice(0, 12)),
        ({ stdout = "" }: Error & { stdout?: string }) =>
          stdout.includes(two.id.slice(0, 12)) && !stdout.includes(one.id.slice(0, 12)),
      );
      assert.ok(!existsSync(join(agent.paths.netns, `berth-${one.id}`)));
      await agent.kill9();
      await agent.restart();
      assert.deepEqual(
        (await removals()).map(({ pod_sandbox_id }) => pod_sandbox_id),
        [two.id],
      );
    } finally {
      renameSync(`${plugin}.away`, plugin);
    }
    await agent.client.call("CollectNetworkGarbage", {});
    await agent.assertNothingLeft();
  });

  it("a DEL that hangs delays the pod's end by seconds only, and goes on", async () => {
    const pod = await runPod(agent);
    behave("DEL", `while [ ! -e $base/go ]; do sleep 0.05; done`);
    const begun = Date.now();
    await removePod(agent, pod);
    assert.ok(Date.now() - begun < 15_000);
    assert.equal((await removals()).length, 1);
    writeFileSync(at("go"), "");
    await until("the plugin ends", async () => (await removals()).length === 0);
    await agent.assertNothingLeft();
  });

  it("an agent killed while a plugin adds: the next one ends the plugin, and takes away what it may have made", async () => {
    behave("ADD", `while [ ! -e $base/never ]; do sleep 0.05; done`);
    rmSync(at("calls"), { force: true });
    const call = assert.rejects(runPod(agent));
    await until("the plugin runs", () => calls().some((line) => line.startsWith("ADD ")));
    await agent.kill9();
    await call;
    await agent.restart();
    const id = calls()
      .find((line) => line.startsWith("ADD "))
      ?.slice(4);
    assert.ok(calls().includes(`DEL ${id}`));
    await agent.assertNothingLeft();
  });

  it("what a plugin says of its readiness is the network's", async () => {
    const condition = async () => {
      const { status } = await agent.client.call("Status", {});
      return status?.conditions?.find(({ type }) => type === "NetworkReady");
    };
    behave("STATUS", `echo '{"code": 50, "msg": "no route to the controller"}'; exit 1`);
    await agent.restart();
    const { status, message } = (await condition()) ?? {};
    assert.equal(status, false);
    assert.match(message ?? "", /STATUS failed \(code 50\): no route to the controller/);
    rmSync(at("plugin-STATUS"));
    await agent.restart();
    assert.equal((await condition())?.status, true);
  });

  it("GC at the start names the pods that are there", async () => {
    const pod = await runPod(agent);
    rmSync(at("stdin-GC"), { force: true });
    await agent.restart();
    await until("GC is called", () => existsSync(at("stdin-GC")) && readFileSync(at("stdin-GC"), "utf8") !== "");
    const configuration = JSON.parse(readFileSync(at("stdin-GC"), "utf8"));
    assert.deepEqual(configuration["cni.dev/valid-attachments"], [{ containerID: pod.id, ifname: "eth0" }]);
    await removePod(agent, pod);
  });

  it("a list in a version that the plugin does not know leaves the network not ready", async () => {
    behave("VERSION", `echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0"]}'`);
    await agent.restart();
    const { status } = await agent.client.call("Status", {});
    const { message } = status?.conditions?.find(({ type }) => type === "NetworkReady") ?? {};
    assert.match(message ?? "", /CNI plugin odd knows the versions \["0\.4\.0"\], not 1\.1\.0 of network odd/);
  });
});
