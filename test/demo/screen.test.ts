import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createScreen, quoted, type Screen, wantsColour, wrap } from "./screen.js";

function shown(use: (screen: Screen) => void, colour = false): string[] {
  let text = "";
  use(createScreen({ write: (more) => (text += more), colour, screens: 2 }));
  return text.split("\n").slice(0, -1);
}

describe("a screen", () => {
  test("aligns values and names their sources", () => {
    const lines = shown((screen) =>
      screen.values([
        ["a", "1", "/proc/a"],
        ["long", "22"],
      ]),
    );
    assert.deepEqual(lines, ["  a     1   ← /proc/a", "  long  22"]);
  });

  test("puts a long source on a line of its own", () => {
    const source = `/${"x".repeat(100)}`;
    assert.deepEqual(
      shown((screen) => screen.values([["a", "1", source]])),
      ["  a  1", `    ← ${source}`],
    );
  });

  test("aligns the columns of a table", () => {
    const lines = shown((screen) =>
      screen.table(
        ["name", "n"],
        [
          ["x", "1000"],
          ["longer", "2"],
        ],
        "ls",
      ),
    );
    assert.deepEqual(lines, ["  name    n", "  x       1000", "  longer  2", "  ← ls"]);
  });

  test("counts what was not as described", () => {
    let failures = 0;
    const lines = shown((screen) => {
      screen.check("good", true);
      screen.check("bad", false);
      failures = screen.counts().failures;
    });
    assert.deepEqual(lines, ["  ✔ good", "  ✘ bad"]);
    assert.equal(failures, 1);
  });

  test("has colours only when it is told to", () => {
    const check = (screen: Screen) => screen.check("good", true);
    assert.deepEqual(shown(check, true), ["  \x1b[32m✔\x1b[0m good"]);
    assert.deepEqual(shown(check, false), ["  ✔ good"]);
  });
});

test("colours are for a terminal whose user has not refused them", () => {
  assert.equal(wantsColour({ isTTY: true }, {}), true);
  assert.equal(wantsColour({ isTTY: true }, { NO_COLOR: "" }), true);
  assert.equal(wantsColour({ isTTY: true }, { NO_COLOR: "1" }), false);
  assert.equal(wantsColour({ isTTY: true }, { TERM: "dumb" }), false);
  assert.equal(wantsColour({}, {}), false);
});

test("arguments are quoted as a shell needs them", () => {
  assert.equal(quoted(["sh", "-c", "echo it's > /x"]), "sh -c 'echo it'\\''s > /x'");
});

test("words are wrapped, and one that is too long stands alone", () => {
  assert.deepEqual(wrap("a bb ccc toolongforit d", 6), ["a bb", "ccc", "toolongforit", "d"]);
});
