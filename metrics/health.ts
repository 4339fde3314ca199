/**
 * /healthz, /livez and /readyz, in the form that Kubernetes' own components give them: "ok", or with `?verbose` (and always
 * when something is wrong) a line for each check. `?exclude=NAME` leaves one out.
 */

export interface Check {
  /** a word, stable: what `exclude` names */
  readonly name: string;
  /** Why it fails, a sentence; null: it does not. What it throws is a reason, too. */
  run(): Promise<string | null> | string | null;
}

export interface HealthAnswer {
  status: 200 | 503;
  text: string;
}

/** Of checks that hang, and of all of them together: whoever asks has a time-out of a second or a few. */
const patienceMs = 5_000;

const livePaths = new Set(["/healthz", "/livez"]);

/** Undefined: `path` is none of the three. That there is an answer at all is what the first two tell. */
export async function answerHealth(
  path: string,
  query: URLSearchParams,
  readiness: readonly Check[],
): Promise<HealthAnswer | undefined> {
  const isLive = livePaths.has(path);
  if (!isLive && path !== "/readyz") return undefined;
  const excluded = new Set(query.getAll("exclude"));
  const checks = [{ name: "ping", run: () => null }, ...(isLive ? [] : readiness)].filter(
    ({ name }) => !excluded.has(name),
  );
  const reasons = await Promise.all(checks.map(reasonOf));
  const lines = checks.map(({ name }, index) => {
    const reason = reasons[index];
    return reason === null ? `[+]${name} ok\n` : `[-]${name} failed: ${reason}\n`;
  });
  const name = path.slice(1);
  if (reasons.some((reason) => reason !== null))
    return { status: 503, text: `${lines.join("")}${name} check failed\n` };
  return { status: 200, text: query.has("verbose") ? `${lines.join("")}${name} check passed\n` : "ok" };
}

async function reasonOf(check: Check): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`it has taken longer than ${patienceMs / 1000} s`), patienceMs);
  });
  try {
    const reason = await Promise.race([check.run(), late]);
    return reason?.replaceAll("\n", " ") ?? null;
  } catch (error) {
    return String(error instanceof Error ? error.message : error).replaceAll("\n", " ");
  } finally {
    clearTimeout(timer);
  }
}
