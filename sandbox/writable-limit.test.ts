import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "./errors.js";
import { parseByteQuantity, writableLimitAnnotation, writableLimitOf } from "./writable-limit.js";

test("sizes are whole numbers with Kubernetes's suffixes", () => {
  const sizes = ["1", "5k", "5Ki", "2M", "10Mi", "1Gi", "3T"];
  assert.deepEqual(sizes.map(parseByteQuantity), [1, 5000, 5120, 2e6, 10485760, 1073741824, 3e12]);
  for (const text of ["", "0", "-1", "1.5Gi", "1m", "1KB", "Gi", "99999999Ti", " 1", "1e3"]) {
    assert.equal(parseByteQuantity(text), undefined, text);
  }
});

test("the container's annotation comes before the pod's, and neither gives more than the node", () => {
  const limit = (ofContainer?: string, ofPod?: string, usual?: number): number | undefined => {
    const annotations = (text?: string) => (text === undefined ? {} : { [writableLimitAnnotation]: text });
    const config = runtime.v1.ContainerConfig.fromObject({ annotations: annotations(ofContainer) });
    const podConfig = runtime.v1.PodSandboxConfig.fromObject({ annotations: annotations(ofPod) });
    return writableLimitOf(config, podConfig, usual);
  };
  assert.equal(limit(), undefined);
  assert.equal(limit(undefined, undefined, 7), 7);
  assert.equal(limit("5", "6"), 5);
  assert.equal(limit(undefined, "6", 7), 6);
  assert.equal(limit(undefined, "8", 7), 7);
  assert.throws(() => limit(undefined, "much", 7), InvalidArgumentError);
});
