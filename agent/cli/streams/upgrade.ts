/** A connection to a URL that the agent has answered for a stream. */
import { request as overHttp } from "node:http";
import { request as overHttps } from "node:https";
import type { Socket } from "node:net";

export interface Upgraded {
  socket: Socket;
  /** what came with the answer's last packet */
  head: Buffer;
}

/** Rejects with what the server says when it does not want to. */
export function openUpgrade(url: string, method: string, headers: Record<string, string>): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const options = { method, headers: { ...headers, Connection: "Upgrade" } };
    // the URL came over the agent's own socket, with a token that nobody else knows: its certificate proves nothing more
    const request = url.startsWith("https:")
      ? overHttps(url, { ...options, rejectUnauthorized: false })
      : overHttp(url, options);
    request.on("upgrade", (_response, socket, head) => {
      (socket as Socket).setNoDelay(true);
      resolve({ socket: socket as Socket, head });
    });
    request.on("response", (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => reject(new Error(`the agent does not open the stream: ${body.trim()}`)));
    });
    request.on("error", reject);
    request.end();
  });
}
