/** The names by which a device that is seen may be awaited. */
import { expect, test } from "vitest";
import { namesOf } from "#protocol/sighting.ts";

const mac = "A0:B1:C2:D3:E4:F5";

test.each([
  [{ name: "lamp" }, ["lamp"]],
  [{ name: "lamp", mac }, ["lamp"]],
  [{ name: "lamp-d3e4f5", mac }, ["lamp-d3e4f5", "lamp"]],
  [{ name: "lamp-d3e4f5" }, ["lamp-d3e4f5"]],
  [{ name: "lamp-000000", mac }, ["lamp-000000"]],
])("those of %j are %j", (sighting, names) => expect(namesOf(sighting)).toEqual(names));
