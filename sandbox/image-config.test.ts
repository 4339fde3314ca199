import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseImageConfig } from "./image-config.js";

const rootfs = { type: "layers", diff_ids: [`sha256:${"a".repeat(64)}`] };

describe("image configurations", () => {
  it("are read, and what is missing is empty", () => {
    const full = parseImageConfig({
      architecture: "amd64",
      os: "linux",
      config: {
        User: "app",
        Env: ["A=b"],
        Cmd: null,
        Volumes: { "/data": {} },
        ExposedPorts: { "80/tcp": {} },
        Labels: { a: "b" },
      },
      rootfs,
      history: [{ created_by: "x", empty_layer: true }],
      unknown: 1,
    });
    assert.equal(full.config.User, "app");
    assert.deepEqual(full.config.Cmd, []);
    assert.deepEqual(full.config.Volumes, { "/data": {} });
    assert.deepEqual(full.history, [{ created_by: "x", empty_layer: true }]);
    const least = parseImageConfig({ rootfs: { type: "layers", diff_ids: null } });
    assert.deepEqual(least.config.Env, []);
    assert.deepEqual(least.rootfs.diff_ids, []);
  });

  it("may have a program's name where its list of words is", () => {
    const { config } = parseImageConfig({ rootfs, config: { Entrypoint: "/my program", Cmd: "" } });
    assert.deepEqual(config.Entrypoint, ["/my program"]);
    assert.deepEqual(config.Cmd, []);
  });

  it("are refused with the field's name", () => {
    const refuses = (value: unknown, message: RegExp): void => {
      assert.throws(() => parseImageConfig(value), message);
    };
    refuses(null, /the image configuration/);
    refuses({}, /rootfs/);
    refuses({ rootfs: { type: "zfs" } }, /rootfs\.type/);
    refuses({ rootfs: { type: "layers", diff_ids: ["x"] } }, /rootfs\.diff_ids/);
    refuses({ rootfs, config: { Env: "A=b" } }, /config\.Env/);
    refuses({ rootfs, config: { Env: [1] } }, /config\.Env/);
    refuses({ rootfs, config: { Cmd: ["a\0b"] } }, /config\.Cmd/);
    refuses({ rootfs, config: { Cmd: "a\0b" } }, /config\.Cmd/);
    refuses({ rootfs, config: { Entrypoint: 1 } }, /config\.Entrypoint/);
    refuses({ rootfs, config: { User: 0 } }, /config\.User/);
    refuses({ rootfs, config: { Labels: { a: 1 } } }, /config\.Labels/);
    refuses({ rootfs, config: { Volumes: ["/data"] } }, /config\.Volumes/);
  });
});
