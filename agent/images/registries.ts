export interface Registries {
  readonly directory: string | undefined;
}
export function openRegistries(directory: string | undefined): Registries {
  return { directory };
}
