// The place of a lobby ticket, recomputed in the page from the ticket and the public draw, as docs/reference/formats.md says.

const utf8 = (s) => new TextEncoder().encode(s);
const hex = (b) => Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
const unhex = (s) => Uint8Array.from(s.match(/../g) || [], (x) => parseInt(x, 16));

function u64(n) {
  const b = new DataView(new ArrayBuffer(8));
  b.setBigUint64(0, n);
  return new Uint8Array(b.buffer);
}

// readTicket is the public part of a ticket, or null when it is not one this script knows.
export function readTicket(text) {
  const raw = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  if (raw[0] !== 1 || raw.length !== 97) return null;
  return { lane: raw[2], line: hex(raw.subarray(5, 21)), who: raw.subarray(21, 37) };
}

// lot is the place that a holder draws among so many, as a BigInt.
export async function lot(room, line, round, value, who, among) {
  const input = [];
  for (const f of [utf8("draw1"), utf8(room), unhex(line), u64(BigInt(round)), unhex(value), who]) input.push(f.length >> 8, f.length & 255, ...f);
  const sum = new DataView(await crypto.subtle.digest("SHA-256", Uint8Array.from(input)));
  return (sum.getBigUint64(0) * BigInt(among)) >> 64n;
}
