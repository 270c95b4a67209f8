import { expect, test } from "vitest";
import { type Renamed, renamedText } from "#cli/renamed-text.ts";

const lines = (...text: readonly string[]) => `${text.join("\n")}\n`;

function textOf(renamed: Renamed): string {
  if (!renamed.ok) throw new Error(renamed.reason);
  return renamed.text;
}

test("only the name changes: comments, order, quotes, tags and line ends stay as they are", () => {
  const before = [
    "# my lamp",
    "packages: !include_dir_list common",
    "esphome:",
    "  friendly_name: lamp   # lamp",
    '  name:   "lamp"    # the name',
    "  on_boot:",
    "    - lambda: |-",
    '        ESP_LOGI("lamp", "on");',
    "wifi: {ssid: !secret wifi_ssid, password: !secret wifi_password}",
    "<<: !include lamp.common.yaml",
    "",
  ].join("\r\n");
  expect(textOf(renamedText(before, "desk"))).toBe(before.replace('"lamp"    #', '"desk"    #'));
});

test("the name keeps its quotes, and gets some where YAML would read it as something else", () => {
  const named = (name: string) => lines("esphome:", `  name: ${name}`);
  expect(textOf(renamedText(named("'lamp'"), "desk"))).toBe(named("'desk'"));
  expect(textOf(renamedText(named("lamp"), "desk-2"))).toBe(named("desk-2"));
  for (const name of ["on", "no", "null", "12", "1e5", "0x1f"]) {
    expect(textOf(renamedText(named("lamp"), name))).toBe(named(`"${name}"`));
  }
  expect(textOf(renamedText(lines("esphome: {name: lamp, comment: lamp}"), "desk"))).toBe(
    lines("esphome: {name: desk, comment: lamp}"),
  );
});

test("a name that is a substitution is replaced where that is defined", () => {
  for (const used of ["${device}", "$device", '"${device}"', "'${ device }'"]) {
    const before = lines("substitutions:", "  device: &d lamp # here", "esphome:", `  name: ${used}`);
    expect(textOf(renamedText(before, "desk"))).toBe(before.replace("lamp #", "desk #"));
  }
});

test("a name that is not in the file, or not as a text, is refused with where it comes from", () => {
  const cases: readonly (readonly [string, string])[] = [
    [lines("packages:", "  base: !include base.yaml"), "no `esphome: name:` of its own"],
    [lines("esphome: !include base.yaml"), "no `esphome: name:` of its own"],
    [lines("esphome:", "  comment: x"), "no `esphome: name:` of its own"],
    [lines("esphome:", "  name: !secret name"), "is a !secret"],
    [lines("names: [&a lamp]", "esphome:", "  name: *a"), "is the alias *a"],
    [lines("esphome:", "  name: |", "    lamp"), "is a block of text"],
    [lines("esphome:", "  name: [lamp]"), "is no text"],
    [lines("esphome:", "  name: lamp-${room}"), 'is put together as "lamp-${room}"'],
    [lines("esphome:", "  name: ${room}"), "the substitution room, which this file does not define"],
    [lines("substitutions: !include s.yaml", "esphome:", "  name: $room"), "which this file does not define"],
    [lines("substitutions:", "  room: ${a}-b", "esphome:", "  name: $room"), 'room, which is "${a}-b"'],
    [lines("esphome:", "  name: [lamp"), "no YAML that can be edited"],
    ["- lamp\n", "no `esphome: name:` of its own"],
    ["", "no `esphome: name:` of its own"],
  ];
  for (const [text, words] of cases) {
    expect(renamedText(text, "desk")).toEqual({ ok: false, reason: expect.stringContaining(words) as string });
  }
});
