// The room's endpoints.

import { readStatus, Status } from "./status";

export type State = "lobby" | "waiting" | "called" | "admitted";

export interface Place {
  ticket?: string;
  state: State;
  lane?: string;
  line?: string;
  rank: number | null;
  ahead: number | null;
  sample?: boolean; // ask again each minute: this ticket stands for many in the forecast
}

export interface Joined {
  ticket?: string;
  state: State;
  place: Place;
  pass?: string;
}

export interface Claimed {
  pass: string;
  expires_at: string;
  stay_until: string;
  return_to: string;
}

// Problem is a refusal, as RFC 9457 words it. code is the last part of its type; retryAfterMs is 0 where waiting does not help.
export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    readonly retryAfterMs: number,
  ) {
    super(code || "status " + status);
  }
}

// Room speaks to one room. Without a ticket of its own it relies on the browser's cookies; an app hands it the ticket that join returned.
export class Room {
  private etag = "";
  private last: Status | null = null;

  constructor(
    readonly endpoint: string,
    public ticket = "",
  ) {}

  // status is the room's public object, or null when it is of a kind that this program does not know. What has not changed is not sent again.
  async status(): Promise<Status | null> {
    const r = await fetch(this.endpoint + "/status", { credentials: "omit", cache: "no-store", headers: this.etag ? { "If-None-Match": this.etag } : {}, signal: limit(15e3) });
    if (r.status === 304) return this.last;
    if (!r.ok) throw await problem(r);
    this.last = readStatus(await r.json());
    this.etag = this.last ? r.headers.get("ETag") || "" : "";
    return this.last;
  }

  join(wish: { lane?: string; invite?: string; key?: string; work?: string } = {}): Promise<Joined> {
    return this.send("join", wish);
  }

  place(): Promise<Place> {
    return this.send("place");
  }

  // claim may wait 8 s at the door.
  claim(to = ""): Promise<Claimed> {
    return this.send("claim", { to });
  }

  async leave(): Promise<void> {
    await this.send("leave", {});
  }

  // record is the signed record of a line; open it with openRecord.
  record(line: string): Promise<any> {
    return this.send(`lines/${line}/record`);
  }

  async ledger(line: string, lane: number, chunk: number): Promise<ArrayBuffer> {
    const r = await fetch(`${this.endpoint}/lines/${line}/ledger/${lane}/${chunk}`, { credentials: "omit", signal: limit(15e3) });
    if (!r.ok) throw await problem(r);
    return r.arrayBuffer();
  }

  private async send(what: string, body?: object): Promise<any> {
    const headers: Record<string, string> = body ? { "Content-Type": "application/json" } : {};
    if (this.ticket) headers.Authorization = "Stanchion " + this.ticket;
    const r = await fetch(`${this.endpoint}/${what}`, {
      method: body ? "POST" : "GET",
      credentials: "same-origin",
      cache: "no-store",
      headers,
      body: body && JSON.stringify(body),
      signal: limit(20e3),
    });
    if (!r.ok) throw await problem(r);
    return r.status === 204 ? null : r.json();
  }
}

const limit = (ms: number): AbortSignal | undefined => (AbortSignal.timeout ? AbortSignal.timeout(ms) : undefined);

async function problem(r: Response): Promise<Problem> {
  let p: any = {};
  try {
    p = await r.json();
  } catch {
    // Not ours: a proxy between. Its status is enough.
  }
  const code = typeof p?.type === "string" ? p.type.split("/").pop() : "";
  const ms = Number(p?.retry_after_ms);
  return new Problem(code, r.status, ms > 0 ? Math.min(Math.max(ms, 250), 300e3) : r.status >= 500 || r.status === 429 ? 3000 : 0);
}
