import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { podConfig, withSecurity } from "../spec/spec-fixtures.js";
import { openSelinux, type Selinux } from "./selinux.js";
import { containerLabels, podLabels } from "./selinux-labels.js";

const directory = mkdtempSync(join(tmpdir(), "berth-selinux-"));
after(() => rmSync(directory, { recursive: true }));

const off = openSelinux(false);
const on: Selinux = {
  enabled: true,
  process: { user: "system_u", role: "system_r", type: "container_t", level: "s0" },
  file: { user: "system_u", role: "object_r", type: "container_file_t", level: "s0" },
  problem: "",
  isValid: (label) => !label.includes("nowhere_t"),
};

const pod = (context: Record<string, unknown>, selinux = on) =>
  podLabels(selinux, podConfig({ linux: { security_context: context } }), []);
const container = (context: Record<string, unknown>, ofPod = pod({}), selinux = on) =>
  containerLabels(selinux, withSecurity(context), ofPod);

/** A directory like /etc/selinux and one like /sys/fs/selinux, which takes every label as long as it has `context`. */
function places(lxcContexts: string, { mls = "1", takesLabels = true } = {}) {
  const base = mkdtempSync(join(directory, "place-"));
  const contexts = join(base, "etc", "strange", "contexts");
  mkdirSync(contexts, { recursive: true });
  mkdirSync(join(base, "fs"));
  writeFileSync(join(base, "etc", "config"), "# SELINUXTYPE=other\nSELINUX=permissive\nSELINUXTYPE=strange\n");
  writeFileSync(join(contexts, "lxc_contexts"), lxcContexts);
  writeFileSync(join(base, "fs", "mls"), mls);
  if (takesLabels) writeFileSync(join(base, "fs", "context"), "");
  return { etc: join(base, "etc"), selinuxfs: join(base, "fs") };
}

test("the labels for containers are the policy's own", () => {
  const text = 'process = "u:r:pod_t:s1"\nfile = "u:object_r:pod_file_t:s1"\nro_file = "x:y:z:s0"\n';
  const selinux = openSelinux(true, places(text));
  assert.deepEqual(selinux.process, { user: "u", role: "r", type: "pod_t", level: "s1" });
  assert.deepEqual(selinux.file, { user: "u", role: "object_r", type: "pod_file_t", level: "s1" });
  assert.equal(selinux.problem, "");
});

test("without such a file they are what is usual; a policy without levels gets none", () => {
  assert.equal(openSelinux(true, places("")).process.type, "container_t");
  const flat = openSelinux(true, places("", { mls: "0" }));
  assert.deepEqual(podLabels(flat, podConfig(), []), {
    process: "system_u:system_r:container_t",
    mount: "system_u:object_r:container_file_t",
  });
});

test("a policy that has no labels for containers is told, and containers that name none get none", () => {
  const selinux = openSelinux(true, places("", { takesLabels: false }));
  assert.match(selinux.problem, /no label system_u:system_r:container_t:s0 and no .*container_file_t:s0, as .*strange/);
  assert.equal(podLabels(selinux, podConfig(), []), undefined);
  const asked = { ...selinux, isValid: () => true };
  assert.deepEqual(container({ selinux_options: { type: "svirt_t", level: "s0:c1,c2" } }, undefined, asked), {
    process: "system_u:system_r:svirt_t:s0:c1,c2",
  });
});

test("a pod gets a pair of categories of its own", () => {
  const others = Array.from({ length: 200 }, () => pod({}) ?? assert.fail());
  for (const { process, mount } of others) {
    const [, one, two] = /^system_u:system_r:container_t:s0:c(\d+),c(\d+)$/.exec(process) ?? assert.fail(process);
    assert.ok(Number(one) < Number(two) && Number(two) < 1024, process);
    assert.equal(mount, `system_u:object_r:container_file_t:s0:c${one},c${two}`);
  }
  const all = {
    *[Symbol.iterator]() {
      for (let two = 1; two < 1024; two++) {
        for (let one = 0; one < two; one++) if (two !== 77 || one !== 33) yield { process: `u:r:t:s0:c${one},c${two}` };
      }
    },
  };
  const few = { ...on };
  // one pair is left of 523,776: it is found, or the pod is refused; never one that is taken
  try {
    assert.match(podLabels(few, podConfig(), all)?.process ?? "", /:s0:c33,c77$/);
  } catch (error) {
    assert.match(String(error), /every pair/);
  }
});

test("what is asked for counts, the rest is the pod's", () => {
  const ofPod = pod({ selinux_options: { level: "s0:c5,c6" } });
  assert.deepEqual(ofPod, {
    process: "system_u:system_r:container_t:s0:c5,c6",
    mount: "system_u:object_r:container_file_t:s0:c5,c6",
  });
  assert.deepEqual(container({}, ofPod), ofPod);
  assert.deepEqual(container({ selinux_options: { type: "other_t" } }, ofPod), {
    process: "system_u:system_r:other_t:s0:c5,c6",
    mount: "system_u:object_r:container_file_t:s0:c5,c6",
  });
  const options = { user: "me_u", role: "me_r", type: "me_t", level: "s0-s0:c0.c9" };
  assert.equal(container({ selinux_options: options }, ofPod)?.process, "me_u:me_r:me_t:s0-s0:c0.c9");
});

test("privileged containers and pods that see the host's processes get the labels that they ask for, and no others", () => {
  assert.equal(container({ privileged: true }), undefined);
  assert.match(
    container({ privileged: true, selinux_options: { type: "spc_t" } })?.process ?? "",
    /^system_u:system_r:spc_t:s0:c/,
  );
  for (const namespace_options of [{ pid: "NODE" }, { ipc: "NODE" }]) {
    assert.equal(pod({ namespace_options }), undefined);
    assert.ok(pod({ namespace_options, selinux_options: { level: "s0" } }));
  }
  assert.ok(pod({ namespace_options: { network: "NODE" } }));
});

test("what is no label is refused, and without SELinux there are none", () => {
  const asking =
    (selinux_options: Record<string, string>, selinux = on) =>
    () =>
      containerLabels(selinux, withSecurity({ selinux_options }), undefined);
  assert.throws(asking({ type: "nowhere_t" }), {
    constructor: InvalidArgumentError,
    message: /selinux_options: "system_u:system_r:nowhere_t:s0" is no label of this host's policy/,
  });
  for (const options of [{ type: "t t" }, { user: "a:b" }, { role: "x\0" }, { level: "s0\n" }] as Record<
    string,
    string
  >[]) {
    assert.throws(asking(options), InvalidArgumentError, JSON.stringify(options));
  }
  assert.equal(asking({ type: "t" }, off)(), undefined);
  assert.throws(asking({ type: "t t" }, off), InvalidArgumentError);
  assert.equal(pod({ selinux_options: { level: "s0" } }, off), undefined);
  assert.equal(pod({}, off), undefined);
  assert.equal(containerLabels(off, withSecurity({ selinux_options: {} }), undefined), undefined);
});
