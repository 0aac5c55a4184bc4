// A fan's place, computed again from public data alone.

import { bases, CHUNK, hex, openRecord, rankOf, readTicket, unhex, utf8 } from "./formats";
import { Room } from "./room";

// Verdict of a check. ok: the place follows from the record. operator: it does, but the draw was made by the organiser, which proves nothing. later: the place is
// not known yet. bad: something contradicts something else. cannot: this browser lacks WebCrypto.
export interface Verdict {
  result: "ok" | "operator" | "later" | "bad" | "cannot";
  rank: number | null;
  signed: boolean; // the record's signatures were checked too
}

// verifyPlace checks a ticket's place. published is the draw's value as the status object has it, shown the rank that the fan is shown; each may be empty or null. What
// a browser cannot check is the public beacon's own signature (BLS); `stanchion verify` does.
export async function verifyPlace(room: Room, roomName: string, ticket: string, shown: number | null, published: string): Promise<Verdict> {
  const say = (result: Verdict["result"], rank: number | null = null, signed = false): Verdict => ({ result, rank, signed });
  if (!globalThis.crypto?.subtle) return say("cannot");
  const t = readTicket(ticket);
  if (!t) return say("cannot");
  const doc = await room.record(t.line);
  let o;
  try {
    o = await openRecord(doc);
  } catch {
    return say("bad");
  }
  const drawn = o.draw.kind !== "";
  const lobbyEnd = drawn ? Math.max(0, Math.ceil((o.opensAtMs - o.epochMs) / 100)) : 0;
  const inLobby = t.win < lobbyEnd;
  if (o.line !== t.line || o.room !== roomName) return say("bad", null, o.signed);
  if (inLobby && o.result) {
    const { value, proof, round } = o.result;
    if (round !== o.draw.round || (published && published !== value)) return say("bad", null, o.signed);
    const bytes = o.draw.kind === "drand" ? unhex(proof) : utf8(proof);
    if (o.draw.kind !== "operator" && hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource))) !== value) return say("bad", null, o.signed);
  }
  const need = inLobby ? [lobbyEnd] : [t.win, t.win + 1];
  const known = new Map<number, bigint>();
  for (const w of need) {
    // What stands behind a chunk's last window is the first entry of the next, which may have nothing sealed yet.
    const c = Math.floor(Math.max(0, w - 1) / CHUNK);
    const b = bases(await room.ledger(t.line, t.lane, c));
    if (w - c * CHUNK < b.length) known.set(w, b[w - c * CHUNK]);
  }
  const opening = { room: o.room, line: o.line, lobbyEnd, round: o.draw.round, randomness: o.result ? unhex(o.result.value) : null };
  const rank = await rankOf(opening, t, (w) => known.get(w) ?? null);
  if (rank === null) return say("later", null, o.signed);
  if (shown !== null && BigInt(shown) !== rank) return say("bad", Number(rank), o.signed);
  return say(inLobby && o.draw.kind === "operator" ? "operator" : "ok", Number(rank), o.signed);
}
