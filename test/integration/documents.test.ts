/** What the book's chapters have to type, typed as it stands there, beside what is shown under it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type Block, readPages } from "../support/documents.js";
import { importBusybox, runContainer, runPod, sh } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const pages = new Map(readPages().map((page) => [page.path, page]));
const blocksOf = (path: string): readonly Block[] => pages.get(path)?.blocks ?? [];
const missing = ["/bin/bash", "/usr/bin/unshare", "/bin/busybox"].find((path) => !existsSync(path));
const skip = missing !== undefined && `${missing} is not installed`;

interface Typed {
  command: string;
  shown: string[];
}

/** "# COMMAND" and the lines under it. */
function typedIn(blocks: readonly Block[]): Typed[] {
  const typed: Typed[] = [];
  for (const line of blocks.filter(({ lines }) => lines[0]?.startsWith("# ")).flatMap(({ lines }) => lines)) {
    if (line.startsWith("# ")) typed.push({ command: line.slice(2), shown: [] });
    else typed.at(-1)?.shown.push(line);
  }
  return typed;
}

/** What bash prints of the script on both outputs, line by line. */
function bash(script: string, cwd: string, env: Record<string, string> = {}): string[] {
  const { stdout } = spawnSync("/bin/bash", ["-c", "exec 2>&1; exec bash"], {
    ...{ cwd, input: script, encoding: "utf8", timeout: 60_000 },
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", ...env },
  });
  return stdout.split("\n").filter((line) => line !== "");
}

describe("docs/by-hand.md", { skip }, () => {
  const scratch = mkdtempSync("/tmp/hand-");
  after(() => rmSync(scratch, { recursive: true }));
  // numbers of processes differ, and on a terminal ls prints columns
  const comparable = (lines: readonly string[]) =>
    lines.flatMap((line) =>
      line
        .replace(/^ +(?!1 )\d+/, "N")
        .trim()
        .split(/\s+/),
    );

  it("makes a container", () => {
    const blocks = blocksOf("docs/by-hand.md");
    const made = blocks.filter(({ language }) => language === "sh").flatMap(({ lines }) => lines);
    const session = typedIn(blocks);
    const inside = session.slice(
      0,
      session.findIndex(({ command }) => command === "exit"),
    );
    const [afterwards, ...more] = session.slice(inside.length + 1);
    assert.ok(inside.length > 1 && afterwards !== undefined && more.length === 0);
    const lines = [...made, ...inside.map(({ command }) => command)].join("\n").replaceAll("/tmp/hand", scratch);
    const shown = inside.flatMap((typed) => typed.shown);
    assert.deepEqual(comparable(bash(`${lines}\n`, scratch)), comparable(shown));
    assert.deepEqual(bash(afterwards.command, scratch), afterwards.shown);
  });
});

describe("docs/storage.md", { skip }, () => {
  const scratch = mkdtempSync("/tmp/union-");
  after(() => rmSync(scratch, { recursive: true }));

  it("makes a union", () => {
    const union = blocksOf("docs/storage.md").find(({ lines }) => lines[0]?.startsWith("mkdir lower1"))?.lines ?? [];
    const printed = bash(`unshare --mount bash\n${union.join("\n")}\n`, scratch);
    assert.deepEqual(
      printed.filter((line) => /^\w+$/.test(line)),
      ["one", "two", "one", "two"],
    );
    assert.ok(printed.some((line) => /^c.* 0, +0 .* b$/.test(line)));
    assert.ok(printed.some((line) => /^-.* a$/.test(line)));
  });
});

describe("chapters with an agent", { skip }, () => {
  let agent: TestAgent;
  let container: string;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    // as "berth run" asks
    const seccomp = { profile_type: 0 };
    container = await runContainer(agent, await runPod(agent), {
      ...sh("sleep 1000"),
      linux: { security_context: { seccomp } },
    });
  });
  after(() => agent.stop());
  const type = (command: string) => {
    const line = command.replace("npx berth", `'${process.execPath}' '${program}'`).replace("CONTAINER", container);
    return bash(line, "/", { BERTH_SOCKET: agent.socket });
  };

  const typed = typedIn(blocksOf("docs/privileges.md"));
  it("docs/privileges.md has something to type", () => assert.ok(typed.length > 10));
  for (const { command, shown } of typed) {
    // the tests of user namespaces look at that one
    if (command.includes("hostUsers: false")) continue;
    it(command, () => {
      const printed = type(command);
      // two outputs; the day is not that of the page; and this test may itself run below a filter
      const comparable = (lines: readonly string[]) =>
        lines.map((text) => text.replace(/^\w{3} \w{3} +\d+ (\S+) UTC \d+$|(?<=Seccomp_filters:\t)\d+/, "$1")).sort();
      assert.deepEqual(comparable(printed), comparable(shown));
    });
  }

  // their values are another machine's: the columns and the rows' names are looked at
  for (const [path, command] of [
    ["docs/namespaces.md", "npx berth namespaces"],
    ["docs/cgroups.md", "npx berth cgroup CONTAINER"],
  ] as const) {
    it(`${path}: ${command}`, (t) => {
      const { shown } = typedIn(blocksOf(path)).find((one) => one.command === command) ?? { shown: [] };
      const printed = type(command);
      const header = shown.find((line) => /^ *[A-Z]+( +[A-Z]+)+$/.test(line)) ?? "";
      const words = (line: string) => line.trim().split(/ +/);
      assert.ok(
        printed.some((line) => words(line).join() === words(header).join()) && header !== "",
        printed.join("\n"),
      );
      const rows = shown.flatMap((line) => /^ {2}([a-z][^/]*?) {2}.* \/sys\/fs\/cgroup\//.exec(line)?.[1] ?? []);
      if (path !== "docs/cgroups.md") return;
      assert.ok(rows.length > 5);
      if (!printed.some((line) => line.includes("/unified/")))
        return t.skip("the page shows a hybrid of cgroup v1 and v2");
      for (const row of rows)
        assert.ok(
          printed.some((line) => line.startsWith(`  ${row}  `)),
          row,
        );
    });
  }
});
