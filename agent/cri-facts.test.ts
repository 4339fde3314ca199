/** Holds cri-proto/runtime.proto against cri-proto/facts.tsv, both ways. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const criProto = new URL("../../cri-proto/", import.meta.url);

function factsOfTable(): string[] {
  const lines = readFileSync(new URL("facts.tsv", criProto), "utf8").trimEnd().split("\n").slice(1);
  // a message without fields has a line of its own, one with fields has none; empty columns at the end are left out
  return lines.map((line) => [...line.split("\t"), "", "", "", ""].slice(0, 6).join("\t"));
}

function typeOf(field: protobuf.Field, owner: string): string {
  if (field instanceof protobuf.MapField) return `map<${field.keyType},${field.type}>`;
  const nested = field.resolvedType !== null && field.resolvedType.parent === field.parent;
  const name = nested ? `${owner}.${field.type}` : field.type;
  return field.repeated ? `repeated ${name}` : name;
}

function factsOf(namespace: protobuf.NamespaceBase, prefix: string): string[] {
  const facts: string[] = [];
  for (const entry of namespace.nestedArray) {
    const name = `${prefix}${entry.name}`;
    if (entry instanceof protobuf.Service) {
      for (const method of entry.methodsArray) {
        const arrow = method.responseStream === true ? "-> stream" : "->";
        facts.push(
          ["rpc", name, method.name, "", `${method.requestType} ${arrow} ${method.responseType}`, ""].join("\t"),
        );
      }
    } else if (entry instanceof protobuf.Enum) {
      for (const [value, number] of Object.entries(entry.values)) {
        facts.push(["enum", name, value, number, "", ""].join("\t"));
      }
    } else if (entry instanceof protobuf.Type) {
      if (entry.fieldsArray.length === 0) facts.push(["message", name, "", "", "", ""].join("\t"));
      for (const field of entry.fieldsArray) {
        field.resolve();
        const note = field.getOption("deprecated") === true ? "deprecated" : "";
        facts.push(["field", name, field.name, field.id, typeOf(field, name), note].join("\t"));
      }
      facts.push(...factsOf(entry, `${name}.`));
    }
  }
  return facts;
}

function factsOfProto(): string[] {
  const root = new protobuf.Root();
  root.loadSync(fileURLToPath(new URL("runtime.proto", criProto)), { keepCase: true });
  const v1 = root.lookup("runtime.v1");
  assert.ok(v1 instanceof protobuf.Namespace, "package runtime.v1");
  return factsOf(v1, "");
}

test("runtime.proto has every fact of the CRI and nothing else", () => {
  const expected = factsOfTable();
  const actual = factsOfProto();
  assert.deepEqual(
    expected.filter((fact) => !actual.includes(fact)),
    [],
    "missing in runtime.proto",
  );
  assert.deepEqual(
    actual.filter((fact) => !expected.includes(fact)),
    [],
    "not in facts.tsv",
  );
  const count = (kind: string) => actual.filter((fact) => fact.startsWith(`${kind}\t`)).length;
  assert.deepEqual([count("rpc"), count("field")], [43, 478]);
});
