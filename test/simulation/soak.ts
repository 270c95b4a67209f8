/**
 * Runs seed after seed until its time is over, and says which of them broke a promise.
 *
 * `node test/simulation/soak.ts [seconds, 60 when left out] [first seed; by the clock when left out]`; ends with 1 when one broke.
 */
import { simulate } from "#test/simulation/simulation.ts";

const seconds = Number(process.argv[2] ?? 60);
const first = Number(process.argv[3] ?? Math.floor(Date.now() / 1_000) * 1_000);
const until = performance.now() + seconds * 1_000;
const reportMs = 10_000;

let seed = first;
let broken = 0;
let simulatedMs = 0;
let sessions = 0;
let reportAt = performance.now() + reportMs;
const line = (text: string) => process.stdout.write(`${text}\n`);

line(`seeds from ${first} on, for ${seconds} s`);
while (performance.now() < until) {
  const verdict = await simulate(seed);
  simulatedMs += verdict.ms;
  sessions += verdict.sessions;
  for (const violation of verdict.violations) line(`seed ${seed}: ${violation}`);
  if (verdict.violations.length > 0) broken += 1;
  seed += 1;
  if (performance.now() >= reportAt) {
    reportAt += reportMs;
    line(`${seed - first} seeds, ${broken} broken`);
  }
}
line(
  `${seed - first} seeds, ${broken} broken, ${sessions} flash sessions, ${(simulatedMs / 3_600_000).toFixed(1)} simulated hours`,
);
if (broken > 0) {
  line("replay one with: SEED=<seed> npx vitest run --project fast test/simulation");
  process.exitCode = 1;
}
