/** Who leads the farm: the one value in the bucket of the lease. */
import { z } from "zod";
import { BootId } from "#protocol/ids.ts";

export const LeaseHolder = z.object({
  v: z.literal(1),
  /** One life of a coordinator's process. */
  holder: BootId,
  host: z.string(),
  pid: z.number().int(),
  /** Since when it leads, ms since 1970 by its own clock. */
  since: z.number(),
});
export type LeaseHolder = z.infer<typeof LeaseHolder>;
