import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "./errors.js";
import { resolveUser } from "./identity.js";
import { image, withSecurity } from "./spec/spec-fixtures.js";

const passwd = [
  "root:x:0:0:root:/root:/bin/sh",
  "www-data:x:33:33:www:/var/www:/usr/sbin/nologin",
  "app:x:1000:1000::/home/app\r:",
  "4294967296:x:0:0::/:",
  "2147483648:x:0:0::/:",
  "1001:x:0:0::/:",
  "broken:x:abc:0::/:",
  "huge:x:99999999999:0::/:",
  "short:x",
  "",
].join("\n");
const group = [
  "root:x:0:",
  "wheel:x:10:root",
  "www-data:x:33:",
  "app:x:1000:",
  "extra:x:50000:app,www-data",
  "bad:x:x:app",
  "staff:x:50:",
].join("\n");

const files: Record<string, string> = { "/etc/passwd": passwd, "/etc/group": group };

function resolve(context: Record<string, unknown>, user = "", root = files) {
  const readFile = async (path: string): Promise<string> => {
    const content = root[path];
    if (content === undefined) throw Object.assign(new Error(`open ${path}: ENOENT`), { errnoName: "ENOENT" });
    return content;
  };
  return resolveUser(readFile, { config: withSecurity(context), image: image({ User: user }) });
}

const run = (uid: number | string) => ({ run_as_user: { value: uid } });

test("every form of the image's USER", async () => {
  const ids = async (user: string) => {
    const { uid, gid, additionalGids } = await resolve({}, user);
    return [uid, gid, additionalGids];
  };
  assert.deepEqual(await ids(""), [0, 0, [0, 10]]);
  assert.deepEqual(await ids("app"), [1000, 1000, [1000, 50000]]);
  assert.deepEqual(await ids("1000"), [1000, 1000, [1000, 50000]]);
  assert.deepEqual(await ids("app:staff"), [1000, 50, [50]]);
  assert.deepEqual(await ids("app:50"), [1000, 50, [50]]);
  assert.deepEqual(await ids("1000:staff"), [1000, 50, [50]]);
  assert.deepEqual(await ids("7:8"), [7, 8, [8]]);
  assert.deepEqual(await ids("7"), [7, 0, [0]]);
  assert.deepEqual(await ids("app:"), [1000, 1000, [1000, 50000]]);
  assert.deepEqual(await ids(":staff"), [0, 50, [50]]);
});

test("the request's user counts alone", async () => {
  const user = await resolve(run(1000), "www-data:staff");
  assert.deepEqual(user, { uid: 1000, gid: 1000, additionalGids: [1000, 50000], home: "/home/app", username: "app" });
  const unknown = await resolve(run(1234), "app");
  assert.deepEqual(unknown, { uid: 1234, gid: 0, additionalGids: [0], home: "/", username: "" });
  const named = await resolve({ run_as_username: "www-data", run_as_group: { value: 5 } });
  assert.deepEqual([named.uid, named.gid, named.additionalGids], [33, 5, [5, 50000]]);
  const zero = await resolve({ ...run(0), run_as_group: { value: 0 } }, "app");
  assert.deepEqual([zero.uid, zero.gid], [0, 0]);
});

test("supplemental groups: merged with the image's, or strict", async () => {
  const context = { ...run(1000), supplemental_groups: [1234, 1000, 0] };
  assert.deepEqual((await resolve(context)).additionalGids, [0, 1000, 1234, 50000]);
  const strict = await resolve({ ...context, supplemental_groups_policy: "Strict" });
  assert.deepEqual(strict.additionalGids, [0, 1000, 1234]);
  assert.deepEqual((await resolve({ supplemental_groups: [5678] }, "", {})).additionalGids, [0, 5678]);
});

test("a root without passwd and group is fine for numbers", async () => {
  assert.deepEqual(await resolve({}, "5:6", {}), { uid: 5, gid: 6, additionalGids: [6], home: "/", username: "" });
});

test("a number is never looked up as a name", async () => {
  assert.equal((await resolve({}, "2147483648")).uid, 2147483648);
  assert.equal((await resolve({}, "1001")).uid, 1001);
  await assert.rejects(resolve({}, "4294967296"), invalid(/the image's USER: 4294967296 is greater/));
  await assert.rejects(resolve({}, "4294967295"), invalid(/4294967295/));
  await assert.rejects(resolve({}, "99999999999999999999"), invalid(/greater/));
  await assert.rejects(resolve({ run_as_username: "4294967296" }), invalid(/run_as_username/));
});

test("what does not exist or excludes each other is refused by field", async () => {
  await assert.rejects(resolve({}, "nobody"), invalid(/the image's USER: there is no user "nobody"/));
  await assert.rejects(resolve({}, "app:none"), invalid(/there is no group "none"/));
  await assert.rejects(resolve({}, "a:b:c"), invalid(/more than one colon/));
  await assert.rejects(resolve({}, "broken"), invalid(/"broken"/));
  await assert.rejects(resolve({}, "huge"), invalid(/"huge"/));
  await assert.rejects(resolve({}, "-1"), invalid(/"-1"/));
  await assert.rejects(resolve({}, "app\n"), invalid(/no user/));
  await assert.rejects(resolve({ run_as_username: "ghost" }), invalid(/run_as_username: there is no user "ghost"/));
  await assert.rejects(resolve({ run_as_username: "777" }), invalid(/run_as_username: there is no user 777/));
  await assert.rejects(resolve({ run_as_group: { value: 1 } }), invalid(/run_as_group: it needs run_as_user/));
  await assert.rejects(
    resolve({ ...run(1), run_as_username: "app" }),
    invalid(/run_as_username: run_as_user is set, too/),
  );
  await assert.rejects(resolve(run(-1)), invalid(/run_as_user: -1 is not within/));
  await assert.rejects(resolve(run("4294967295")), invalid(/run_as_user/));
  await assert.rejects(resolve({ supplemental_groups_policy: 7 }), invalid(/supplemental_groups_policy: 7/));
  await assert.rejects(resolve({ supplemental_groups: [1, -5] }), invalid(/supplemental_groups\[1\]/));
  await assert.rejects(resolve({ ...run(1), run_as_group: { value: "4294967296" } }), invalid(/run_as_group/));
});

test("a passwd that cannot be read is told as such", async () => {
  const fifo = () =>
    Promise.reject(Object.assign(new Error("openat2 /etc/passwd: not a regular file"), { errnoName: "EINVAL" }));
  await assert.rejects(
    resolveUser(fifo, { config: withSecurity({}), image: image({ User: "app" }) }),
    invalid(/^\/etc\/passwd of the container's root cannot be read: .*not a regular file/),
  );
});

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof InvalidArgumentError && pattern.test(error.message);
}
