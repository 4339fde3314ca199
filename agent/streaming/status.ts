/** How an exec or an attach ended, in the words that clients of the API server read: metav1.Status. */

/** A program that has ended, or why there was none. */
export type Outcome = { exitCode: number } | { error: string };

/**
 * What is sent on the error stream.
 * @param asJson from version 4 of the protocol; before it was the message alone, and nothing for success
 */
export function statusBytes(outcome: Outcome, asJson: boolean): Buffer {
  const status = toStatus(outcome);
  if (asJson) return Buffer.from(JSON.stringify({ metadata: {}, ...status }));
  return Buffer.from("message" in status ? status.message : "");
}

function toStatus(outcome: Outcome) {
  if ("error" in outcome) {
    return {
      status: "Failure",
      message: `Internal error occurred: ${outcome.error}`,
      reason: "InternalError",
      details: { causes: [{ message: outcome.error }] },
      code: 500,
    };
  }
  if (outcome.exitCode === 0) return { status: "Success" };
  return {
    status: "Failure",
    message: `command terminated with non-zero exit code: ${outcome.exitCode}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(outcome.exitCode) }] },
  };
}
