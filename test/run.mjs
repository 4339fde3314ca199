// Runs the tests: the native ones built with sanitizers, the unit tests, then those that need root and real processes.
//   node test/run.mjs [--shuffle] [PART...]     only files whose path contains one of the parts, without the native ones
// Of the whole run the agents are started as the package has them, in a few files: some hundreds of starts at half the cost.
// With --shuffle the files of each kind run in random order.
// The last line is "N passed, N failed, N skipped"; the exit code is 0 when none failed.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join, relative } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { bundleProgram } from "./support/bundle-program.mjs";

const repository = join(dirname(fileURLToPath(import.meta.url)), "..");
const arguments_ = process.argv.slice(2);
const shuffle = arguments_.includes("--shuffle");
const parts = arguments_.filter((argument) => argument !== "--shuffle");
const totals = { passed: 0, failed: 0 };
const skips = [];

function testFiles(directory) {
  if (!existsSync(directory)) return [];
  const files = readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".test.js"))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)))
    .filter(hasSource)
    .sort();
  return shuffle ? shuffled(files) : files;
}

function shuffled(list) {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .sort((one, other) => one.at - other.at)
    .map(({ item }) => item);
}

/** The compiler leaves what it made of sources that are gone. */
function hasSource(path) {
  return existsSync(join(repository, relative(join(repository, "dist"), path).replace(/\.js$/, ".ts")));
}

function heading(text) {
  process.stdout.write(`\n== ${text}\n`);
}

function fail(text) {
  totals.failed++;
  process.stdout.write(`${text}\n`);
}

function runNative() {
  heading("native, with AddressSanitizer and UndefinedBehaviorSanitizer");
  const directory = join(repository, "build", "sanitize");
  const steps = [
    ["cmake", "-S", join(repository, "native"), "-B", directory, "-DBERTH_SANITIZE=ON"],
    ["cmake", "--build", directory, "-j", String(Math.min(2, cpus().length))],
  ];
  for (const [program, ...args] of steps) {
    const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28 });
    if (status !== 0) return fail(`${program} ${args.join(" ")} failed: ${error?.message ?? ""}\n${stdout}${stderr}`);
  }
  const { stdout, stderr, status } = spawnSync("ctest", ["--test-dir", directory, "--output-on-failure"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  process.stdout.write(stdout);
  const summary = /(\d+) tests failed out of (\d+)/.exec(stdout);
  if (summary === null) {
    if (!/No tests were found/.test(stdout + stderr)) fail(`ctest ended with ${status} and no summary: ${stderr}`);
    else skips.push({ name: "native tests", reason: "there are none" });
    return;
  }
  totals.failed += Number(summary[1]);
  totals.passed += Number(summary[2]) - Number(summary[1]);
}

function runFiles(title, files, options) {
  if (files.length === 0) return Promise.resolve();
  heading(title);
  return new Promise((resolve) => {
    const stream = run({ files, ...options });
    stream.on("test:pass", count);
    stream.on("test:fail", count);
    const report = stream.compose(new spec());
    report.on("data", (chunk) => process.stdout.write(chunk));
    report.on("end", resolve);
  });
}

/** Suites are counted by what is in them; one that fails without a failing test in it (a hook) is counted itself. */
function count(event) {
  const error = event.details?.error;
  if (error !== undefined) {
    if (error.failureType !== "subtestsFailed") totals.failed++;
  } else if (event.skip !== undefined) {
    skips.push({ name: event.name, reason: event.skip });
  } else if (event.name.endsWith(".test.js")) {
    fail(`${event.name} holds no tests`);
  } else if (event.details?.type !== "suite") {
    totals.passed++;
  }
}

if (parts.length === 0) {
  runNative();
  await bundleProgram(repository);
}
const dist = join(repository, "dist");
const inTest = join(dist, "test");
await runFiles(
  "unit",
  [
    ...["agent", "metrics", "sandbox", "native"].map((name) => join(dist, name)),
    ...["demo", "documents", "fuzz", "support", "vm"].map((name) => join(inTest, name)),
  ].flatMap(testFiles),
  { concurrency: 2, timeout: 300_000 },
);
if (process.getuid() !== 0) {
  skips.push({ name: "integration, rules, faults, security", reason: "they need root" });
} else {
  for (const name of ["integration", "rules", "faults", "security"]) {
    // they wait for processes a third of their time
    await runFiles(name, testFiles(join(inTest, name)), { concurrency: cpus().length + 1, timeout: 300_000 });
  }
}

if (skips.length > 0) heading("skipped");
for (const { name, reason } of skips)
  process.stdout.write(`${name}: ${reason === true ? "no reason given" : reason}\n`);
process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed, ${skips.length} skipped\n`);
process.exitCode = totals.failed > 0 ? 1 : 0;
