/** When an upload may begin, other than as soon as it can. */
import { z } from "zod";

const minutesADay = 24 * 60;
const MinuteOfDay = z
  .number()
  .int()
  .min(0)
  .max(minutesADay - 1);

/** A part of each day by the clock on somebody's wall; `from` later than `to` goes over midnight. Equal ones are the whole day. */
export const DailyWindow = z.object({
  /** Minutes since midnight. */
  from: MinuteOfDay,
  to: MinuteOfDay,
  /** Name in the time zone database: `Europe/Berlin`. */
  zone: z.string().min(1).max(60),
});
export type DailyWindow = z.infer<typeof DailyWindow>;

export const UploadTiming = z.object({
  /** Waits for a sign of life of its device, however long that takes. */
  isAwaited: z.boolean().optional(),
  /** Begins within it; what has begun may end after it. */
  window: DailyWindow.optional(),
});
export type UploadTiming = z.infer<typeof UploadTiming>;

/** `02:00-05:00`, as people write and read it; undefined for any other text. */
export function parseWindow(text: string, zone: string): DailyWindow | undefined {
  const parts = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined) return undefined;
  const [fromHour = 99, fromMinute = 99, toHour = 99, toMinute = 99] = parts;
  if (fromHour > 23 || toHour > 23 || fromMinute > 59 || toMinute > 59) return undefined;
  return { from: fromHour * 60 + fromMinute, to: toHour * 60 + toMinute, zone };
}

export function describeWindow({ from, to, zone }: DailyWindow): string {
  const time = (minute: number) =>
    `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
  return `${time(from)}-${time(to)} (${zone})`;
}
