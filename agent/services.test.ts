import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { imageService, methodDefinition, runtimeService } from "./services.js";

const facts = readFileSync(new URL("../../cri-proto/facts.tsv", import.meta.url), "utf8").split("\n");

for (const [name, methods] of Object.entries({ RuntimeService: runtimeService, ImageService: imageService })) {
  test(`${name} has the CRI's calls, with its streams`, () => {
    const rows = facts.map((line) => line.split("\t")).filter(([kind, owner]) => kind === "rpc" && owner === name);
    const expected = rows.map(([, , call, , types]) => [call, types?.includes("-> stream ") === true]);
    const actual = Object.entries(methods).map(([call, method]) => [call, method.stream]);
    assert.deepEqual(actual, expected);
  });
}

test("a method goes over the wire and back", () => {
  const definition = methodDefinition("runtime.v1.RuntimeService", "Version", runtimeService.Version);
  assert.equal(definition.path, "/runtime.v1.RuntimeService/Version");
  const bytes = definition.responseSerialize({ runtime_name: "berth", version: "0.1.0" });
  assert.equal(bytes.toString("hex"), "0a05302e312e30" + "12056265727468");
  assert.equal(definition.responseDeserialize(bytes).runtime_name, "berth");
});
