/**
 * Takes out of texts what is nobody else's business: passwords, tokens, keys, credentials in addresses, values of environment
 * variables. Rather too much than too little.
 */

export const redacted = "[redacted]";

/** Keys of objects whose values go, whatever they are. */
const secretKey =
  /pass(?:word|wd|phrase)?$|secret|token|credential|^auth|authorization|api[-_]?key|private[-_]?key|cookie|^envs?$|^environment|annotations$/i;

const secretWord =
  "(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api[-_]?key|access[-_]?key|private[-_]?key|auth)";
const restOfWord = "[A-Za-z0-9_.-]{0,64}";

/**
 * In order: what a rule leaves the next one sees. Whatever a program writes may come here, megabytes without a blank, too: where
 * one attempt fails, it has looked at a bounded part, or at what no other attempt begins in.
 */
const rules: readonly [pattern: RegExp, replacement: string][] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, redacted],
  // of a log's tail, which may begin amid a key
  [/^[A-Za-z0-9+/=\s]*-----END [A-Z ]*PRIVATE KEY-----/, redacted],
  // https://user:password@host, https://token@host
  [/(:\/\/)[^\s/@"']+@/g, `$1${redacted}@`],
  // ?X-Amz-Signature=..., ?sig=...
  [
    /([?&][^=?&\s"']{0,64}(?:sig|signature|token|key|secret|credential|password)[^=?&\s"']{0,64}=)[^&\s"']+/gi,
    `$1${redacted}`,
  ],
  [/\b(authorization|proxy-authorization|cookie|set-cookie|x-auth-token)(["']?\s*[:=]\s*)[^\n]+/gi, `$1$2${redacted}`],
  [/\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{6,}/gi, `$1 ${redacted}`],
  [/(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?/g, redacted],
  [/\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}/g, redacted],
  // password=..., DB_PASSWORD: "...", "token": "...", --secret ...
  [
    new RegExp(`(${secretWord}${restOfWord}\\\\?["']?\\s*[:=]\\s*)(\\\\?"[^"\\n]*"|'[^'\\n]*'|[^\\s,;&"'}]+)`, "gi"),
    `$1${redacted}`,
  ],
  [new RegExp(`(${secretWord}(?<=-[A-Za-z0-9_.-]{0,80})${restOfWord}\\s+)[^\\s-][^\\s]*`, "gi"), `$1${redacted}`],
];

export function redactText(text: string): string {
  return rules.reduce((left, [pattern, replacement]) => left.replace(pattern, replacement), text);
}

/** A value as JSON has it, with secret keys' values and what redactText() finds in the others taken out. */
export function redactValue(value: unknown): unknown {
  if (typeof value === "string") return redactText(value);
  if (Array.isArray(value)) return value.map(redactValue);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      secretKey.test(key) && !isEmpty(inner) ? redacted : redactValue(inner),
    ]),
  );
}

/** That there is nothing is worth knowing. */
function isEmpty(value: unknown): boolean {
  return value === null || value === "" || value === undefined || typeof value === "boolean";
}
