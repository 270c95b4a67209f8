/**
 * The system's clock, except that a test can make hours pass in an instant, and that pauses are short: who looks again after
 * each pause looks more often. The test hears of every pause that has ended.
 */
import { type Clock, systemClock } from "#actor/clock.ts";

/** Short enough for a test that waits for several pulses, long enough not to spin. */
const pauseFactor = 0.2;

export interface JumpingClock extends Clock {
  /** Both clocks go ahead at once; pauses that have begun are not cut short. */
  jump(ms: number): void;
  onPaused: ((ms: number) => void) | undefined;
}

export function jumpingClock(): JumpingClock {
  let aheadMs = 0;
  const clock: JumpingClock = {
    now: () => systemClock.now() + aheadMs,
    monotonic: () => systemClock.monotonic() + aheadMs,
    async pause(ms, signal) {
      const isOver = await systemClock.pause(ms * pauseFactor, signal);
      clock.onPaused?.(ms);
      return isOver;
    },
    jump: (ms) => {
      aheadMs += ms;
    },
    onPaused: undefined,
  };
  return clock;
}
