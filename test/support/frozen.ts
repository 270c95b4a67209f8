/** Values that throw when somebody changes them, to prove that a pure function leaves its input alone. */

const known = new WeakSet<object>();

/** Freezes a value with everything in it; maps refuse to be changed as well. Gives back the same value. */
export function frozen<T>(value: T): T {
  if (typeof value !== "object" || value === null || known.has(value)) return value;
  known.add(value);
  if (value instanceof Map) {
    for (const [key, item] of value) {
      frozen(key);
      frozen(item);
    }
    const refuse = () => {
      throw new TypeError("a frozen map was changed");
    };
    Object.assign(value, { set: refuse, delete: refuse, clear: refuse });
    return value;
  }
  for (const item of Object.values(value)) frozen(item);
  return Object.freeze(value);
}
