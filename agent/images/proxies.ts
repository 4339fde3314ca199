/** Which proxy a request goes through, by the environment that curl, containerd and the kubelet read, too. */
import { BlockList, isIP } from "node:net";
import { FailedPreconditionError } from "../../sandbox/errors.js";

/**
 * HTTPS_PROXY and HTTP_PROXY, by the scheme of the address; NO_PROXY has the exceptions. In lowercase they count when
 * those in capitals are not set. This machine itself is never asked through a proxy.
 * @throws FailedPreconditionError naming the variable that cannot be used; never what is in it: it may have a password
 */
export function proxyFor(url: URL, environment: NodeJS.ProcessEnv = process.env): URL | undefined {
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const text = settingOf(environment, name);
  if (text === "" || !usesProxy(url, settingOf(environment, "NO_PROXY"))) return undefined;
  const address = /^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(address)) throw new FailedPreconditionError(`${name} is no address of a proxy`);
  const proxy = new URL(address);
  if (proxy.protocol !== "http:" && proxy.protocol !== "https:") {
    throw new FailedPreconditionError(`${name} names a proxy by ${proxy.protocol}, and only http and https are known`);
  }
  return proxy;
}

function settingOf(environment: NodeJS.ProcessEnv, name: string): string {
  return (environment[name] || environment[name.toLowerCase()] || "").trim();
}

/** NO_PROXY: names with those below them, ".name" and "*.name" for those below only, addresses, CIDRs, ports, "*". */
function usesProxy(url: URL, exceptions: string): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  if (host === "localhost" || contains("127.0.0.0/8", host) || contains("::1/128", host)) return false;
  return !exceptions
    .toLowerCase()
    .split(/[\s,]+/)
    .some((exception) => exception !== "" && matches(exception, host, port));
}

function matches(exception: string, host: string, port: string): boolean {
  if (exception === "*") return true;
  if (exception.includes("/")) return contains(exception, host);
  const [, bracketed, plain = "", onlyPort] = /^(?:\[([^\]]*)\]|([^:]*))(?::([0-9]+))?$/.exec(exception) ?? [];
  const name = isIP(exception) === 6 ? exception : (bracketed ?? plain);
  if (name === "" || (onlyPort !== undefined && onlyPort !== port && isIP(exception) !== 6)) return false;
  if (isIP(name) !== 0) return contains(`${name}/${isIP(name) === 4 ? 32 : 128}`, host);
  if (isIP(host) !== 0) return false;
  const below = name.replace(/^\*?\./, "");
  return host.endsWith(`.${below}`) || (below === name && host === name);
}

function contains(cidr: string, host: string): boolean {
  const [network = "", prefix = ""] = cidr.split("/");
  const family = isIP(network);
  const hostFamily = isIP(host);
  if (family === 0 || hostFamily === 0 || !/^[0-9]{1,3}$/.test(prefix) || Number(prefix) > (family === 4 ? 32 : 128)) {
    return false;
  }
  const list = new BlockList();
  list.addSubnet(network, Number(prefix), family === 4 ? "ipv4" : "ipv6");
  return list.check(host, hostFamily === 4 ? "ipv4" : "ipv6");
}
