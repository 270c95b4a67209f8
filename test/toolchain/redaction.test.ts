import { expect, test } from "vitest";
import { redactFailure, redactor, secretsIn } from "#toolchain/redaction.ts";

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
  const failure = { kind: "config-invalid", exitCode: 2, tail: ["password: 1234-5678"] } as const;
  expect(redactFailure({ ...failure, tail: [...failure.tail] }, redact).tail).toEqual(["password: «secret wifi»"]);
  expect(redactFailure({ kind: "internal", detail: "1234" }, redact)).toEqual({ kind: "internal", detail: "1234" });
});
