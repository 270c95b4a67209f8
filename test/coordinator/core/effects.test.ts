/** What a coordinator that starts does again: exactly what its records still imply. */
import { expect, test } from "vitest";
import { Chain } from "#protocol/chain.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { impliedEffects } from "#coordinator/core/effects.ts";
import { emptyFarm, type Farm } from "#coordinator/core/farm.ts";
import { buildRequest, chainNumber, flashed, installRequest, uploadRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** The farm as it is read back from its records: through bytes, without agents, in any order. */
function rebuilt(farm: Farm): Farm {
  const chains = [...farm.chains.values()].toReversed().map((chain) => {
    const decoded = decode(Chain, encode(chain));
    if (!decoded.ok) throw decoded.error;
    return decoded.value;
  });
  return { ...emptyFarm, chains: new Map(chains.map((chain) => [chain.id, chain])) };
}

test("a rebuilt farm dispatches what nobody has claimed, stops what is being cancelled, archives what is finished", () => {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots: 3 });
  farm.submit(buildRequest(1), buildRequest(2), buildRequest(3), buildRequest(4));
  farm.claim(2, "compile");
  farm.cancel(2);
  farm.claim(3, "compile");
  farm.cancel(4);
  expect(impliedEffects(rebuilt(farm.farm)).toSorted((a, b) => (a.kind < b.kind ? -1 : 1))).toEqual([
    { kind: "archive", chain: chainNumber(4) },
    { kind: "dispatch", agent: "bench", chain: chainNumber(1), job: "compile", attempt: 1 },
    { kind: "stop", agent: "bench", chain: chainNumber(2), job: "compile", attempt: 1 },
  ]);
});

test("nothing is implied by what waits, runs, or has gone", () => {
  const farm = new TestFarm();
  farm.uploadAgent("pi");
  farm.submit(installRequest(1), uploadRequest(2), buildRequest(3));
  farm.claim(2, "upload");
  farm.cancel(3);
  farm.send({ kind: "chain-archived", chain: chainNumber(3) });
  expect(impliedEffects(rebuilt(farm.farm))).toEqual([]);
});

test("records survive their way through bytes unchanged, flash claim, failures and all", () => {
  const farm = new TestFarm();
  farm.compileAgent("bench");
  farm.uploadAgent("pi");
  farm.submit(installRequest(1));
  farm.claim(1, "compile");
  farm.vanish("bench");
  farm.compileAgent("bench");
  farm.bringToUpload(1);
  farm.claimFlash(1);
  farm.uploadAgent("pi", { boot: 2 });
  expect(rebuilt(farm.farm).chains.get(chainNumber(1))).toEqual(farm.chain(1));
});

test("a farm goes on from its records as if nothing had happened, whatever their order", () => {
  const farm = new TestFarm();
  farm.uploadAgent("pi");
  farm.submit(uploadRequest(1), uploadRequest(2));
  farm.claim(1, "upload");
  farm.claimFlash(1);
  farm.farm = rebuilt(farm.farm);
  farm.uploadAgent("pi", { holding: [{ chain: chainNumber(1), job: "upload", attempt: 1 }] });
  expect(farm.claimFlash(1)).toBe("go");
  farm.report(1, "upload", flashed);
  expect(farm.states(1)).toBe("succeeded");
  expect(farm.states(2)).toBe("dispatched");
});
