/** Waits for the work, but no longer than that; then it goes on by itself. */
export async function withPatience(work: Promise<void>, patienceMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, patienceMs);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}
