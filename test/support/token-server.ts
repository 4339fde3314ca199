/** A token server as Docker's specification has it, that a real registry believes: signed JWTs, for those who may have them. */
import { createSign, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { KeyPair } from "./certificates.js";

export interface TokenServer {
  /** its address, to be named as realm */
  url: string;
  /** "GET repository:x/y:pull", "POST ...": what tokens were asked for */
  asked: string[];
  stop(): Promise<void>;
}

export interface TokenServerOptions {
  issuer: string;
  service: string;
  /** of an elliptic curve; the registry trusts who has signed the certificate */
  signer: KeyPair;
  /** by name; who shows none may only read what is public */
  users: Record<string, string>;
  refreshToken: string;
  /** repositories that everybody may read begin so */
  publicPrefix: string;
}

export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? "/", "http://tokens");
      const form = new URLSearchParams(request.method === "POST" ? await textOf(request) : "");
      const parameters = request.method === "POST" ? form : url.searchParams;
      const scope = parameters.get("scope") ?? "";
      asked.push(`${request.method} ${scope}`);
      const user = userOf(request, form, options);
      if (user === undefined) {
        response.writeHead(401, { "content-type": "application/json" }).end('{"details":"incorrect"}');
        return;
      }
      const token = sign(options, user, scope);
      const field = request.method === "POST" ? "access_token" : "token";
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ [field]: token }));
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}/token`,
    asked,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** "": nobody; undefined: somebody who is not who it says */
function userOf(request: IncomingMessage, form: URLSearchParams, options: TokenServerOptions): string | undefined {
  if (request.method === "POST") return form.get("refresh_token") === options.refreshToken ? "refreshed" : undefined;
  const shown = /^Basic (.*)$/.exec(request.headers.authorization ?? "")?.[1];
  if (shown === undefined) return "";
  const [name = "", password] = Buffer.from(shown, "base64").toString().split(":");
  return options.users[name] === password ? name : undefined;
}

function sign({ issuer, service, signer, publicPrefix }: TokenServerOptions, user: string, scope: string): string {
  const [type = "", name = "", actions = ""] = scope.split(":");
  const mayPull = user !== "" || name.startsWith(publicPrefix);
  const allowed = actions.split(",").filter((action) => mayPull && (action === "pull" || user === "pusher"));
  const now = Math.floor(Date.now() / 1000);
  const certificate = new X509Certificate(readFileSync(signer.certificate)).raw.toString("base64");
  const header = { typ: "JWT", alg: "ES256", x5c: [certificate] };
  const claims = {
    ...{ iss: issuer, sub: user, aud: service, jti: `${Math.random()}` },
    ...{ exp: now + 300, nbf: now - 10, iat: now },
    access: scope === "" ? [] : [{ type, name, actions: allowed }],
  };
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const signature = createSign("sha256").update(text);
  return `${text}.${signature.sign({ key: readFileSync(signer.key, "utf8"), dsaEncoding: "ieee-p1363" }, "base64url")}`;
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text;
}
