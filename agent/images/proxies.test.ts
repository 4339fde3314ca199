import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { proxyFor } from "./proxies.js";

const proxyOf = (url: string, environment: NodeJS.ProcessEnv): string | undefined =>
  proxyFor(new URL(url), environment)?.href;

describe("the proxy of a request", () => {
  it("is by the scheme of its address", () => {
    const environment = { HTTPS_PROXY: "http://secure:1", http_proxy: "https://clear:2" };
    assert.equal(proxyOf("https://r.example/v2", environment), "http://secure:1/");
    assert.equal(proxyOf("http://r.example/v2", environment), "https://clear:2/");
    assert.equal(proxyOf("https://r.example", { https_proxy: "low:1", HTTPS_PROXY: "capital:1" }), "http://capital:1/");
    assert.equal(proxyOf("https://r.example", { https_proxy: " low:1 ", HTTPS_PROXY: "" }), "http://low:1/");
    assert.equal(proxyOf("https://r.example", { HTTP_PROXY: "http://p" }), undefined);
    assert.equal(proxyOf("https://r.example", {}), undefined);
  });

  it("is none for this machine", () => {
    const environment = { HTTPS_PROXY: "p:1", HTTP_PROXY: "p:1" };
    for (const host of ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"]) {
      assert.equal(proxyOf(`https://${host}/`, environment), undefined, host);
    }
    assert.equal(proxyOf("https://localhost.example/", environment), "http://p:1/");
  });

  it("is none where NO_PROXY says so", () => {
    const excepted = (host: string, NO_PROXY: string): boolean =>
      proxyOf(`https://${host}/`, { HTTPS_PROXY: "p:1", NO_PROXY }) === undefined;
    for (const [host, exceptions] of [
      ["r.example", "r.example"],
      ["a.r.example", "other, R.Example"],
      ["r.example.", "r.example"],
      ["a.r.example", ".r.example"],
      ["a.b.r.example", "*.r.example"],
      ["anything", "*"],
      ["r.example:5000", "r.example:5000"],
      ["r.example", "r.example:443"],
      ["10.1.2.3", "10.0.0.0/8"],
      ["10.1.2.3:5000", "10.1.2.3"],
      ["10.1.2.3:5000", "10.1.2.3:5000"],
      ["[fd00::1]", "fd00::/8"],
      ["[fd00::1]:5000", "fd00::1"],
      ["[fd00::1]:5000", "[fd00::1]:5000"],
      ["r.example", "a b r.example"],
    ] as const) {
      assert.ok(excepted(host, exceptions), `${host} by ${exceptions}`);
    }
    for (const [host, exceptions] of [
      ["r.example", ".r.example"],
      ["r.example", "*.r.example"],
      ["xr.example", "r.example"],
      ["r.example", "r.example:5000"],
      ["r.example", ""],
      ["11.1.2.3", "10.0.0.0/8"],
      ["10.1.2.3", "10.0.0.0/99"],
      ["10.1.2.3", "/8"],
      ["10.1.2.3", "2.3"],
      ["[fd00::1]", "10.0.0.0/8"],
      ["[fd00::2]", "fd00::1"],
      ["r.example", "[, :443 ://"],
    ] as const) {
      assert.ok(!excepted(host, exceptions), `${host} by ${exceptions}`);
    }
  });

  it("that cannot be used is refused without its password", () => {
    for (const [address, why] of [
      ["socks5://me:secret@p:1", /^HTTPS_PROXY names a proxy by socks5:/],
      ["http://me:secret@p:port", /^HTTPS_PROXY is no address/],
    ] as const) {
      assert.throws(
        () => proxyOf("https://r.example", { HTTPS_PROXY: address }),
        (error: Error) => {
          assert.match(error.message, why);
          assert.ok(!error.message.includes("secret"));
          return true;
        },
      );
    }
  });
});
