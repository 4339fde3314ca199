/** Values at the limits that the kernel, the field and Berth have, and beyond them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../cri-proto/generated/runtime.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  out,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
} from "../support/workload.js";
import { leavesNothing, placeForRules } from "./support.js";

const { ProfileType } = runtime.v1.SecurityProfile;
const at = (name: string) => join(place.agent.paths.base, name);
const linked = { image: { image: "berth.test/linked:1" } };
const place = placeForRules(async ({ agent }) => {
  mkdirSync(at("volume"));
  writeFileSync(at("volume/file"), "content");
  symlinkSync(at("volume"), at("link"));
  await importBusybox(agent, linked.image.image, {
    layers: [
      [
        { path: "real/inner/", type: "directory" },
        { path: "real/inner/file", content: "in the image" },
        { path: "in", type: "symlink", link: "real/inner" },
        { path: "out", type: "symlink", link: "../../../../../real/inner" },
        { path: "circle", type: "symlink", link: "circle" },
      ],
    ],
  });
});
const bytes = (text: string) => Buffer.from(text);
const deepPath = `/${"a/".repeat(2046)}bc`;

describe("arguments and environment", () => {
  const largest = "x".repeat((128 << 10) - 1);

  test("one argument of 128 KiB less its end arrives, in a start and in an exec; a byte more is an error", async () => {
    const count = ["sh", "-c", 'printf %s "$1" | wc -c', "sh"];
    const { output } = await runToEnd(place.agent, place.pod, { command: [...count, largest] });
    assert.equal(output, `${largest.length}\n`);
    const id = await runContainer(place.agent, place.pod);
    assert.equal(await out(place.agent, id, [...count, largest]), `${largest.length}`);
    await fails(exec(place.agent, id, [...count, `${largest}x`]), "INVALID_ARGUMENT", /E2BIG \(the arguments and the/);
    const tooLong = await createContainer(place.agent, place.pod, { command: [...count, `${largest}x`] });
    await fails(
      place.agent.client.call("StartContainer", { container_id: tooLong }),
      "INVALID_ARGUMENT",
      /execve "sh": E2BIG \(the arguments and the environment are too long together\)/,
    );
    const { exit_code, reason } = await containerStatus(place.agent, tooLong);
    assert.deepEqual([exit_code, reason], [128, "StartError"]);
  });

  test("10,000 variables, and 20,000 arguments", async () => {
    const envs = Array.from({ length: 10_000 }, (_, i) => ({ key: `V${i}`, value: bytes(`value ${i}`) }));
    const args = Array.from({ length: 20_000 }, (_, i) => `${i}`);
    const { output } = await runToEnd(place.agent, place.pod, {
      command: ["sh", "-c", 'env | grep -c "^V"; echo $V9999; echo $#; shift 19999; echo $1', "sh"],
      args,
      envs,
    });
    assert.equal(output, "10000\nvalue 9999\n20000\n19999\n");
  });

  test("line ends, quotes and letters of every kind stay what they are", async () => {
    const odd = "a\nb\r\t'\"\\ $(x) `y` é\u2028.";
    const { output } = await runToEnd(place.agent, place.pod, {
      command: ["sh", "-c", 'printf "%s|%s|" "$1" "$ODD"', "sh"],
      args: [odd],
      envs: [{ key: "ODD", value: bytes(odd) }],
    });
    assert.equal(output, `${odd}|${odd}|`);
    const id = await runContainer(place.agent, place.pod);
    assert.equal(await out(place.agent, id, ["printf", "%s", odd]), odd);
  });

  test("more than the kernel takes together is an error", async () => {
    const envs = Array.from({ length: 60 }, (_, i) => ({ key: `V${i}`, value: bytes(largest.slice(20)) }));
    const container_id = await createContainer(place.agent, place.pod, { envs: envs.slice(30) });
    await fails(
      place.agent.client.call("StartContainer", { container_id }),
      "INVALID_ARGUMENT",
      /^config\.args, config\.envs: .*E2BIG/,
    );
    await place.agent.client.call("RemoveContainer", { container_id });
    // more than the pod's monitor takes, with many mounts and without: the pod lives on
    const mounts = Array.from({ length: 600 }, (_, i) => ({ container_path: `/m/${i}`, host_path: at("volume") }));
    const running = await runContainer(place.agent, place.pod);
    for (const config of [{ envs }, { envs, mounts }]) {
      await leavesNothing(place, () =>
        fails(
          createContainer(place.agent, place.pod, config),
          "INVALID_ARGUMENT",
          /^config: arguments, environment, mounts and paths take \d+ bytes together/,
        ),
      );
    }
    await fails(exec(place.agent, running, ["true", ...envs.map(() => largest)]), "INVALID_ARGUMENT", /bytes together/);
    assert.equal(await out(place.agent, running, "echo alive"), "alive");
    await runToEnd(place.agent, place.pod, { command: ["true"], mounts });
  });

  test("a request that is larger than a message may be is told so", async () => {
    const labels = { large: "x".repeat(17 << 20) };
    await leavesNothing(place, () =>
      fails(createContainer(place.agent, place.pod, { labels }), "RESOURCE_EXHAUSTED", /larger than/),
    );
  });
});

describe("names and paths", () => {
  test("names are no files: 300 letters, dots, slashes and line ends", async () => {
    for (const name of ["n".repeat(300), "..", "a/b", "a\nb", " "]) {
      const pod = await runPod(place.agent, { metadata: { name, namespace: name, uid: name }, labels: { name } });
      const id = await runContainer(place.agent, pod, { metadata: { name } });
      assert.equal((await containerStatus(place.agent, id)).metadata?.name, name);
      await removePod(place.agent, pod);
    }
  });

  test("a line's end, a space and other letters in paths", async () => {
    const odd = "a\nb \\ % é";
    mkdirSync(at(odd));
    writeFileSync(join(at(odd), "file"), "odd");
    const { output, status } = await runToEnd(place.agent, place.pod, {
      ...sh('pwd; cat "$PWD/file"'),
      working_dir: `/m/${odd}`,
      mounts: [{ container_path: `/m/${odd}`, host_path: at(odd) }],
      log_path: `${odd}/log`,
    });
    assert.equal(output, `/m/${odd}\nodd`);
    assert.ok(status.log_path?.endsWith(`/${odd}/log`));
  });

  test("a path of 4,095 bytes: of a mount, a working directory, a masked path, a device", async () => {
    assert.equal(deepPath.length, 4095);
    const { output } = await runToEnd(place.agent, place.pod, {
      ...sh("cat ./file; pwd | wc -c"),
      working_dir: deepPath,
      mounts: [{ container_path: deepPath, host_path: at("volume") }],
      linux: { security_context: { masked_paths: [deepPath.slice(0, -2).concat("no")] } },
    });
    assert.equal(output, "content4096\n");
    const devices = [{ container_path: deepPath, host_path: "/dev/zero", permissions: "r" }];
    const [directory, name] = [deepPath.slice(0, -3), deepPath.slice(-2)];
    const told = await runToEnd(place.agent, place.pod, {
      ...sh(`cd ${directory} && head -c 3 ./${name} | wc -c`),
      devices,
    });
    assert.equal(told.output, "3\n");
  });

  test("what a container nests deeper than any path goes with it, and its usage is told meanwhile", async () => {
    const name = "d".repeat(200);
    const script = `i=0; while [ $i -lt 60 ]; do mkdir ${name} || exit 1; cd -P ./${name} || exit 2; i=$((i+1)); done; echo x > f; echo $i`;
    // AppArmor has to know the whole path, and refuses what is longer than any
    const linux = { security_context: { apparmor: { profile_type: ProfileType.Unconfined } } };
    const { id, output } = await runToEnd(place.agent, place.pod, { ...sh(script), linux });
    assert.equal(output, "60\n");
    // it is measured in the background: the first answers may be without it
    for (let inodes = 0, tries = 0; inodes < 61; tries++) {
      assert.ok(tries < 400, `its writable layer is said to have ${inodes} inodes`);
      const { stats } = await place.agent.client.call("ContainerStats", { container_id: id });
      inodes = Number(stats?.writable_layer?.inodes_used?.value ?? 0);
      if (inodes < 61) await sleep(50);
    }
    await place.agent.client.call("RemoveContainer", { container_id: id });
    const left = () => readdirSync(join(place.agent.paths.root, "containers")).filter((entry) => entry.startsWith("."));
    for (let tries = 0; left().length > 0 && tries < 400; tries++) await sleep(50);
    assert.deepEqual(left(), []);
  });
});

describe("many of them", () => {
  test("4,000 mounts", async () => {
    const mounts = Array.from({ length: 4000 }, (_, i) => ({
      container_path: `/m/${i % 50}/${i}`,
      host_path: at("volume/file"),
      readonly: true,
    }));
    const id = await runContainer(place.agent, place.pod, { mounts });
    assert.equal(await out(place.agent, id, "grep -c ' /m/' /proc/mounts; cat /m/49/3999"), "4000\ncontent");
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });

  test("more of them than the memory of the container holds", async () => {
    const mounts = Array.from({ length: 4000 }, (_, i) => ({
      container_path: `/m/${i}`,
      host_path: at("volume/file"),
    }));
    const linux = { resources: { memory_limit_in_bytes: long(6 << 20) } };
    await leavesNothing(place, () =>
      fails(
        createContainer(place.agent, place.pod, { mounts, linux }),
        "INVALID_ARGUMENT",
        /memory_limit_in_bytes is too little/,
      ),
    );
  });

  test("65,536 groups", async () => {
    const supplemental_groups = Array.from({ length: 65_535 }, (_, i) => long(i + 100_000));
    const { output } = await runToEnd(place.agent, place.pod, {
      ...sh("sed -n 's/^Groups://p' /proc/self/status | wc -w"),
      linux: { security_context: { supplemental_groups } },
    });
    assert.equal(output, "65536\n");
  });

  test("1,000 masked and read-only paths, the same ones again and again", async () => {
    const paths = Array.from(
      { length: 1000 },
      (_, i) => ["/etc/passwd", "/sys/kernel", "/none", "/etc/../etc/group"][i % 4] ?? "",
    );
    const { output } = await runToEnd(place.agent, place.pod, {
      ...sh("wc -c < /etc/passwd; ls /sys/kernel | wc -l"),
      linux: { security_context: { masked_paths: paths, readonly_paths: paths } },
    });
    assert.equal(output, "0\n0\n");
  });

  test("labels and annotations of a megabyte", async () => {
    const large = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`key-${i}`, "v".repeat(1000)]));
    const id = await createContainer(place.agent, place.pod, { labels: large, annotations: large });
    assert.deepEqual({ ...(await containerStatus(place.agent, id)).annotations }, large);
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });
});

describe("links where a path goes through", () => {
  const inLinked = (config: runtime.v1.IContainerConfig) => runToEnd(place.agent, place.pod, { ...linked, ...config });

  test("the working directory: where the image's link leads, within its root", async () => {
    for (const working_dir of ["/in", "/out"]) {
      assert.equal((await inLinked({ ...sh("pwd -P; cat file"), working_dir })).output, "/real/inner\nin the image");
    }
    const container_id = await createContainer(place.agent, place.pod, { ...linked, working_dir: "/real/../in/more" });
    await place.agent.client.call("StartContainer", { container_id });
    assert.equal(await out(place.agent, container_id, "ls -d /real/inner/more"), "/real/inner/more");
    await leavesNothing(place, () =>
      fails(
        createContainer(place.agent, place.pod, { ...linked, working_dir: "/circle/x" }),
        "INVALID_ARGUMENT",
        /"\/circle\/x": ELOOP/,
      ),
    );
  });

  test("a mount: at the place that the image's link leads to, from what the host's link leads to", async () => {
    const mounts = [{ container_path: "/out/m", host_path: at("link") }];
    assert.equal((await inLinked({ ...sh("cat /real/inner/m/file"), mounts })).output, "content");
  });

  test("a device, a masked path, a read-only path", async () => {
    const { output } = await inLinked({
      ...sh(
        "test -c /real/inner/zero && echo device; wc -c < /real/inner/file; touch /real/inner/x 2>&1 | grep -c Read-only",
      ),
      devices: [{ container_path: "/in/zero", host_path: "/dev/zero", permissions: "rw" }],
      linux: { security_context: { masked_paths: ["/out/file"], readonly_paths: ["/in"] } },
    });
    assert.equal(output, "device\n0\n1\n");
  });

  test("a device, a seccomp profile and a part of a path of the host's: where its links lead", async () => {
    symlinkSync("/dev/zero", at("device-link"));
    writeFileSync(at("profile.json"), JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [] }));
    symlinkSync(".", at("here"));
    symlinkSync("here/here/profile.json", at("profile-link"));
    const { output } = await runToEnd(place.agent, place.pod, {
      ...sh("head -c 3 /dev/linked | wc -c; sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status; cat /m/file"),
      devices: [{ container_path: "/dev/linked", host_path: at("here/device-link"), permissions: "r" }],
      mounts: [{ container_path: "/m", host_path: `${at("here/here/link")}/../volume/.` }],
      linux: { security_context: { seccomp: { profile_type: 2, localhost_ref: at("profile-link") } } },
    });
    assert.equal(output, "3\n2\ncontent");
  });

  test("the file for last words", async () => {
    writeFileSync(at("last-words"), "");
    const mounts = [{ container_path: "/in/last", host_path: at("last-words") }];
    await inLinked({ ...sh("echo farewell > /real/inner/last"), mounts });
    assert.equal(readFileSync(at("last-words"), "utf8"), "farewell\n");
  });

  test("a log directory: the link is followed, as the path is the kubelet's own; the file itself is none", async () => {
    mkdirSync(at("elsewhere"));
    symlinkSync(at("elsewhere"), at("logs-link"));
    const pod = await runPod(place.agent, { log_directory: at("logs-link") });
    await runToEnd(place.agent, pod, { ...sh("echo logged"), log_path: "x.log" });
    assert.match(readFileSync(at("elsewhere/x.log"), "utf8"), /stdout F logged\n/);
    symlinkSync(at("target"), at("elsewhere/link.log"));
    await fails(createContainer(place.agent, pod, { log_path: "link.log" }), "INVALID_ARGUMENT", /link\.log": ELOOP/);
    assert.ok(!existsSync(at("target")));
    await removePod(place.agent, pod);
  });
});

test("an agent starts also beside a container's tree that is deeper than any path", async () => {
  const doomed = join(place.agent.paths.root, "containers", ".removed-test");
  const name = "d".repeat(200);
  // a process can go there step by step
  const deeper = `i=0; while [ $i -lt 60 ]; do mkdir ${name}; cd -P ./${name}; i=$((i+1)); done`;
  execFileSync("sh", ["-c", `mkdir ${doomed}; cd ${doomed}; ${deeper}`]);
  assert.ok(existsSync(join(doomed, name)));
  await place.agent.restart();
  // nothing waits for its removal
  for (const until = Date.now() + 20_000; existsSync(doomed) && Date.now() < until; ) await sleep(20);
  assert.ok(!existsSync(doomed));
});
