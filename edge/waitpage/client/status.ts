// The public status object, and what one fan wants to know from it. The server computes the same in package line.

export type Phase = "open" | "lobby" | "drawing" | "waiting" | "paused" | "draining" | "sold_out" | "maintenance" | "ended";

export interface Eta {
  kind: string;
  per_second: number; // 0: cannot say
  low: number;
  high: number;
  block_size: number;
  from_block: number;
  shares: Uint8Array; // of 255, one per block; empty unless kind is "sample"
  cause: string;
}

export interface Lane {
  name: string;
  called: number;
  total: number;
  lobby_count: number;
  per_minute: number;
  eta: Eta;
}

export interface Status {
  line: string;
  phase: Phase;
  server_time: number; // Unix ms, like all times here
  opens_at: number | null;
  lanes: Lane[];
  draw: { kind: string; round: bigint; value: string } | null;
  message: string;
  message_at: number | null;
  poll: { min_ms: number; max_ms: number; spread: number; front_max_ms: number };
}

const PHASES: Record<string, true> = {
  open: true, lobby: true, drawing: true, waiting: true, paused: true, draining: true, sold_out: true, maintenance: true, ended: true,
};

const num = (v: unknown, max = Number.MAX_SAFE_INTEGER): number => (typeof v === "number" && v > 0 ? Math.min(v, max) : 0);
const int = (v: unknown): number => Math.floor(num(v));
const str = (v: unknown, max: number): string => (typeof v === "string" ? v.slice(0, max) : "");
const list = (v: unknown): unknown[] => (Array.isArray(v) ? v : []);
const obj = (v: unknown): Record<string, unknown> => (typeof v === "object" && v !== null ? (v as Record<string, unknown>) : {});

function time(v: unknown): number | null {
  const t = typeof v === "string" ? Date.parse(v) : NaN;
  return Number.isFinite(t) ? t : null;
}

export function fromBase64(s: string): Uint8Array {
  return Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}

function shares(v: unknown): Uint8Array {
  try {
    return fromBase64(str(v, 400)).subarray(0, 256);
  } catch {
    return new Uint8Array(0);
  }
}

// readStatus takes whatever a server sent, older or newer than this program, and makes numbers of it that can be shown. It is null
// when it is no status, or one in a phase that this program does not know.
export function readStatus(raw: unknown): Status | null {
  const o = obj(raw);
  const at = time(o.server_time);
  if (at === null || typeof o.phase !== "string" || !PHASES[o.phase]) return null;
  const d = obj(o.draw);
  const p = obj(o.poll);
  let round = 0n;
  try {
    round = BigInt(int(d.round));
  } catch {
    // no round
  }
  return {
    line: str(o.line, 64),
    phase: o.phase as Phase,
    server_time: at,
    opens_at: time(o.opens_at),
    lanes: list(o.lanes)
      .slice(0, 256)
      .map((x) => {
        const l = obj(x);
        const e = obj(l.eta);
        return {
          name: str(l.name, 64),
          called: int(l.called),
          total: int(l.total),
          lobby_count: int(l.lobby_count),
          per_minute: num(l.per_minute),
          eta: {
            kind: str(e.kind, 16),
            per_second: num(e.per_second),
            low: num(e.low),
            high: Math.max(num(e.low), num(e.high)),
            block_size: int(e.block_size),
            from_block: int(e.from_block),
            shares: e.kind === "sample" ? shares(e.present) : new Uint8Array(0),
            cause: str(e.cause, 32),
          },
        };
      }),
    draw: d.kind ? { kind: str(d.kind, 16), round, value: str(d.value, 128) } : null,
    message: str(o.message, 280),
    message_at: time(o.message_at),
    poll: { min_ms: num(p.min_ms), max_ms: num(p.max_ms), spread: num(p.spread, 0.5), front_max_ms: num(p.front_max_ms) },
  };
}

// ahead is how many ranks are called before this one: 0 when it has been called.
export function ahead(lane: Lane, rank: number): number {
  return Math.max(0, rank - lane.called);
}

export interface Interval {
  low: number; // ms from the status
  high: number;
}

// estimate is the 80% interval until a rank is called, or null when nobody can say.
export function estimate(lane: Lane, rank: number): Interval | null {
  const e = lane.eta;
  if (rank < lane.called) return { low: 0, high: 0 };
  if (!(e.per_second > 0)) return null;
  let n = rank - lane.called;
  if (e.shares.length && e.block_size > 0) {
    // Blocks before the first described one count like it, those after the last like the last.
    n = 0;
    for (let i = 0; i < e.shares.length; i++) {
      const from = Math.max(lane.called, i ? (e.from_block + i) * e.block_size : 0);
      const to = i < e.shares.length - 1 ? Math.min(rank, (e.from_block + i + 1) * e.block_size) : rank;
      if (from < to) n += ((to - from) * e.shares[i]) / 255;
    }
  }
  const t = (n / e.per_second) * 1000;
  const high = t * e.high;
  return high < 90 * 86400e3 ? { low: t * e.low, high } : null;
}

// nextPoll is how many ms to wait before asking again; u is uniform in [0, 1), rank null while it is not known.
export function nextPoll(s: Status, lane: Lane | undefined, rank: number | null, u: number): number {
  const clamp = (v: number, lo: number, hi: number): number => Math.min(Math.max(v, lo), hi);
  const lo = clamp(s.poll.min_ms || 2000, 1000, 300e3);
  let hi = clamp(Math.max(lo, s.poll.max_ms || 60e3), 1000, 300e3);
  let ms = hi;
  if (s.phase === "drawing") ms = Math.max(lo, hi / 8);
  else if (s.phase === "open") ms = lo;
  else if (s.phase === "waiting" && lane) {
    if (rank === null) ms = 1000;
    else {
      const n = ahead(lane, rank);
      const f = s.poll.front_max_ms;
      if (f > 0 && lane.total > lane.called && n <= (lane.total - lane.called) / 10) ms = hi = Math.max(lo, Math.min(hi, f));
      const speed = Math.max(lane.per_minute / 60, lane.eta.per_second);
      if (n === 0) ms = lo;
      else if (speed > 0) ms = clamp((n / speed / 16) * 1000, lo, hi);
    }
  }
  return ms * (1 + s.poll.spread * (2 * u - 1));
}

// roundPeople is a number of people as it may honestly be said: exact below 1,000, then to three digits.
export function roundPeople(n: number): { n: number; exact: boolean } {
  let step = 1;
  for (let m = n; m >= 1000; m = Math.floor(m / 10)) step *= 10;
  return { n: Math.floor((n + step / 2) / step) * step, exact: step === 1 };
}
