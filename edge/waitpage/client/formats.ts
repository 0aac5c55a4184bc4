// Tickets, ranks and records as docs/reference/formats.md freezes them.

import { fromBase64 } from "./status";

export const utf8 = (s: string): Uint8Array => new TextEncoder().encode(s);
export const hex = (b: Uint8Array): string => Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
export const unhex = (s: string): Uint8Array => Uint8Array.from(s.match(/../g) || [], (x) => parseInt(x, 16));

// sha256 of the fields, each behind its length.
export async function hash(...fields: Uint8Array[]): Promise<DataView> {
  return new DataView(await crypto.subtle.digest("SHA-256", join(fields) as BufferSource));
}

function join(fields: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(fields.reduce((n, f) => n + 2 + f.length, 0));
  let at = 0;
  for (const f of fields) {
    out[at] = f.length >> 8;
    out[at + 1] = f.length & 255;
    out.set(f, at + 2);
    at += 2 + f.length;
  }
  return out;
}

export function u64(n: bigint): Uint8Array {
  const b = new DataView(new ArrayBuffer(8));
  b.setBigUint64(0, n);
  return new Uint8Array(b.buffer);
}

export function u32(n: number): Uint8Array {
  return Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);
}

// Stamp is what a ticket's place in the order depends on.
export interface Stamp {
  win: number;
  inc: bigint;
  seq: number;
  who: Uint8Array;
}

export interface Ticket extends Stamp {
  lane: number;
  line: string;
}

// readTicket is the public part of a ticket, or null when it is not one this program knows.
export function readTicket(text: string): Ticket | null {
  let raw: Uint8Array;
  try {
    raw = fromBase64(text);
  } catch {
    return null;
  }
  if (raw[0] !== 1 || raw.length !== 97) return null;
  const v = new DataView(raw.buffer);
  return { lane: raw[2], line: hex(raw.subarray(5, 21)), who: raw.slice(21, 37), win: v.getUint32(53), inc: v.getBigUint64(57), seq: v.getUint32(65) };
}

// Opening is what the places of a line's lobby depend on. lobbyEnd is 0 without a draw; randomness is null until it is public.
export interface Opening {
  room: string;
  line: string;
  lobbyEnd: number;
  round: bigint;
  randomness: Uint8Array | null;
}

const draw1 = utf8("draw1");
const windowOrder1 = utf8("window-order1");

// lot is the place that a holder draws among so many.
export async function lot(o: Opening, who: Uint8Array, among: bigint): Promise<bigint> {
  const h = await hash(draw1, utf8(o.room), unhex(o.line), u64(o.round), o.randomness as Uint8Array, who);
  return (h.getBigUint64(0) * among) >> 64n;
}

// rankOf is the place of a ticket, counted from 0, or null while it is not known. base(w) is the number of tickets before window w, or null
// while that is not sealed.
export async function rankOf(o: Opening, s: Stamp, base: (w: number) => bigint | null): Promise<bigint | null> {
  if (s.win < o.lobbyEnd) {
    const n = base(o.lobbyEnd);
    return n === null || !o.randomness ? null : lot(o, s.who, n);
  }
  const from = base(s.win);
  const to = base(s.win + 1);
  if (from === null || to === null) return null;
  const h = await hash(windowOrder1, u64(s.inc), u32(s.seq));
  return from + ((h.getBigUint64(0) * (to - from)) >> 64n);
}

export const CHUNK = 600; // windows in a chunk of the ledger

// bases reads a chunk of the ledger: the number of tickets before its windows, and behind its last one.
export function bases(chunk: ArrayBuffer): bigint[] {
  const v = new DataView(chunk);
  return Array.from({ length: Math.floor(chunk.byteLength / 8) }, (_, i) => v.getBigUint64(8 * i));
}

// Opened is a line's public record, read.
export interface Opened {
  room: string;
  line: string;
  epochMs: number;
  opensAtMs: number;
  lanes: string[];
  draw: { kind: string; round: bigint };
  result: { round: bigint; value: string; proof: string } | null;
  signed: boolean; // the signatures have been checked; false: this browser cannot
}

interface Signed {
  kid: string;
  body: string;
  sig: string;
}

// openRecord reads the answer of lines/{line}/record, checks every signature it can, and follows the amendments. It throws when something
// in it contradicts the rest.
export async function openRecord(doc: { record: Signed; amendments?: Signed[] | null; result?: { round?: number; value: string; proof?: string } | null }): Promise<Opened> {
  let signed = true;
  const open = async (s: Signed, tag: string): Promise<{ body: Uint8Array; value: any }> => {
    const body = fromBase64(s.body);
    let key: CryptoKey | null = null;
    try {
      key = await crypto.subtle.importKey("raw", fromBase64(s.kid) as BufferSource, "Ed25519", false, ["verify"]);
    } catch {
      signed = false;
    }
    if (key) {
      const head = join([utf8(tag)]);
      const text = new Uint8Array(head.length + body.length);
      text.set(head);
      text.set(body, head.length);
      if (!(await crypto.subtle.verify("Ed25519", key, fromBase64(s.sig) as BufferSource, text as BufferSource))) throw new Error("signature");
    }
    return { body, value: JSON.parse(new TextDecoder().decode(body)) };
  };
  const first = await open(doc.record, "record1");
  const r = first.value;
  let { opens_at_ms: opensAtMs, draw } = r;
  let last = first.body;
  for (const a of doc.amendments || []) {
    if (a.kid !== doc.record.kid) throw new Error("signer");
    const next = await open(a, "amendment1");
    const prev = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", last as BufferSource)));
    if (next.value.prev !== prev || next.value.line !== r.line) throw new Error("amendments");
    ({ opens_at_ms: opensAtMs, draw } = next.value);
    last = next.body;
  }
  return {
    room: r.room,
    line: r.line,
    epochMs: r.epoch_ms,
    opensAtMs: opensAtMs || 0,
    lanes: (r.lanes || []).map((l: { name: string }) => l.name),
    draw: { kind: (draw && draw.kind) || "", round: BigInt((draw && draw.round) || 0) },
    result: doc.result ? { round: BigInt(doc.result.round || 0), value: doc.result.value, proof: doc.result.proof || "" } : null,
    signed,
  };
}
