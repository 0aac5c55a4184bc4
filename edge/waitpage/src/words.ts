// The page's words and numbers in its language, which the server put in front of this script.

type Forms = string | Record<string, string>;
const words: Record<string, Forms> = (globalThis as any).stanchionWords || {};
const lang = typeof document === "undefined" ? "en" : document.documentElement.lang || "en";
const latin = lang + "-u-nu-latn"; // the same digits as the server writes

// Formatters are dear to make, above all on a phone; most pages need few of them.
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}
const rules = once(() => new Intl.PluralRules(lang));
const numbers = once(() => new Intl.NumberFormat(latin));
const percents = once(() => new Intl.NumberFormat(latin, { style: "percent", maximumFractionDigits: 0 }));
const hourMinute = once(() => new Intl.DateTimeFormat(latin, { hour: "numeric", minute: "2-digit" }));
const hourMinuteSecond = once(() => new Intl.DateTimeFormat(latin, { hour: "numeric", minute: "2-digit", second: "2-digit" }));
const dayHour = once(() => new Intl.DateTimeFormat(latin, { dateStyle: "medium", timeStyle: "short" }));

const fill = (text: string, args: Record<string, string>): string => text.replace(/\{(\w+)\}/g, (all, k) => args[k] ?? all);

export const has = (key: string): boolean => words[key] !== undefined;

export function say(key: string, args: Record<string, string> = {}): string {
  const f = words[key];
  return f === undefined ? "" : fill(typeof f === "string" ? f : f.other, args);
}

export function count(key: string, n: number, shown = number(n)): string {
  const f = words[key];
  if (f === undefined) return "";
  return fill(typeof f === "string" ? f : (f[rules().select(n)] ?? f.other), { n: shown });
}

export const number = (n: number): string => numbers().format(n);
export const percent = (share: number): string => percents().format(share);
export const clock = (ms: number): string => hourMinute().format(ms);
export const exactClock = (ms: number): string => hourMinuteSecond().format(ms);
export const dayAndClock = (ms: number): string => dayHour().format(ms);
// clocks is a range of less than a day: over midnight too without dates, which would need three times the room.
export const clocks = (from: number, to: number): string =>
  new Date(from).getDate() === new Date(to).getDate() ? hourMinute().formatRange(from, to) : `${clock(from)} – ${clock(to)}`;

export function countdown(ms: number): string {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (n: number): string => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}
