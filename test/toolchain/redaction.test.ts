import { expect, test } from "vitest";
import { esphomeFailure, ToolOutput } from "#toolchain/tool-output.ts";
import { redactor, secretsIn } from "#toolchain/redaction.ts";

const yaml = `
esphome:
  name: lamp
wifi:
  ssid: !secret wifi_ssid
  password: "correct horse battery"
  ap: { ssid: Fallback, password: hunter2! }
api:
  encryption:
    key: "bOFFzzvfpg5DB94DuBGLXD/hMnhpDKgP9UQyBulwWVU="
sensor:
  - platform: template
    key: temperature
    name: password
ota:
  - platform: esphome
    password: abc
mqtt:
  client_password: !secret mqtt
lvgl: !include x.yaml
`;

test("what a configuration holds of secrets is found by its key, and nothing else is taken for one", () => {
  expect(secretsIn("lamp.yaml", yaml)).toEqual([
    { name: "password", value: "correct horse battery" },
    { name: "password", value: "hunter2!" },
    { name: "key", value: "bOFFzzvfpg5DB94DuBGLXD/hMnhpDKgP9UQyBulwWVU=" },
  ]);
});

test("every value of a secrets file is one, unless it is a word of three letters", () => {
  const secrets = 'wifi_ssid: "Home Net"\nmqtt: 12345\nshort: abc\nlist:\n  inner: not at the top\n';
  expect(secretsIn("common/secrets.yaml", secrets)).toEqual([
    { name: "wifi_ssid", value: "Home Net" },
    { name: "mqtt", value: "12345" },
  ]);
  expect(secretsIn("secrets.yml", "a: [1, 2\n: broken")).toBeDefined();
});

test("a line shows the name of a secret instead of it, also where one holds another", () => {
  const redact = redactor([
    { name: "pin", value: "1234" },
    { name: "wifi", value: "1234-5678" },
  ]);
  expect(redact("joins with 1234-5678, then 1234, then 12345")).toBe(
    "joins with «secret wifi», then «secret pin», then «secret pin»5",
  );
  expect(redactor([])("joins with 1234")).toBe("joins with 1234");
});

test("a secret is known as C++, JSON, Python and YAML write it", () => {
  const value = `it's "quoted" \\ ä`;
  const redact = redactor([{ name: "odd", value }]);
  const forms = [
    value,
    `it's \\042quoted\\042 \\134 \\303\\244`,
    JSON.stringify(value).slice(1, -1),
    `it's "quoted" \\\\ ä`,
    value.replace("'", "''"),
  ];
  expect(new Set(forms).size).toBe(5);
  for (const form of forms) expect(redact(`set("${form}")`)).toBe(`set("«secret odd»")`);
});

test("of a secret of several lines each line is one", () => {
  const text = "certificate: |\n  MIIBszCC\n  abc\n  q83vEjRW\n";
  expect(secretsIn("secrets.yaml", text).map(({ value }) => value)).toEqual(["MIIBszCC", "q83vEjRW"]);
});

test("a name brings nothing into a line that a reader must not see, and no secret", () => {
  const redact = redactor([
    { name: "a\u001b[31m\u202e»", value: "abcdef" },
    { name: "word", value: "secret" },
  ]);
  expect(redact("abcdef is a secret")).toBe("«secret a??31m??» is a «secret word»");
});

test("neither the line nor the failure of a tool has a part of a secret, also where its line is cut", () => {
  const output = new ToolOutput(redactor([{ name: "ota", value: "hunter2-hunter2" }]));
  const shown = output.push(`main.cpp:1:2: error: ${"x".repeat(370)} \u001b[31mhunter2\u001b[0m-hunter2`);
  expect(shown).toContain("«secret ota»");
  expect(`${shown} ${output.tail().join(" ")}`).not.toContain("hunter");
});

test("the detail of what a machine lacks has no secret either", () => {
  const output = new ToolOutput(redactor([{ name: "git", value: "ghp_0123456789" }]));
  output.push("  unable to access 'https://ghp_0123456789@example.invalid/x.git/'");
  expect(esphomeFailure(1, output, "folder")).toEqual({
    kind: "toolchain-missing",
    missing: "a download that the build needs",
    detail: "unable to access 'https://«secret git»@example.invalid/x.git/'",
  });
});
