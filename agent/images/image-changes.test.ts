import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { applyChanges } from "./image-changes.js";

test("changes make a configuration, later ones over earlier ones", () => {
  const config = applyChanges([
    "CMD echo first",
    "CMD echo $HOME && true ",
    'entrypoint ["/bin/sh", "-e"]',
    "ENV A=1",
    "ENV B=two words",
    "LABEL a.b=c=d",
    "EXPOSE 53/udp",
    "EXPOSE 80",
    "VOLUME /data",
    "WORKDIR /srv",
    "USER 1:2",
    "STOPSIGNAL SIGINT",
  ]);
  assert.deepEqual(config, {
    Cmd: ["/bin/sh", "-c", "echo $HOME && true"],
    Entrypoint: ["/bin/sh", "-e"],
    Env: ["A=1", "B=two words"],
    Labels: { "a.b": "c=d" },
    ExposedPorts: { "53/udp": {}, "80/tcp": {} },
    Volumes: { "/data": {} },
    WorkingDir: "/srv",
    User: "1:2",
    StopSignal: "SIGINT",
  });
  assert.deepEqual(applyChanges([]), {});
});

for (const change of ["", "CMD", "RUN x", "ENV A", "ENV =1", "LABEL x", "EXPOSE http", 'CMD ["a"', "CMD [1]"]) {
  test(`"${change}" is refused`, () => {
    assert.throws(() => applyChanges([change]), InvalidArgumentError);
  });
}
