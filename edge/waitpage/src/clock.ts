// Timers that go on while the tab is hidden: browsers slow a hidden page's own timers down to one a minute, a worker's they leave alone.
// The worker is this same script, which the browser has already.

const inWorker = typeof document === "undefined";
const source = inWorker ? null : (document.currentScript as HTMLScriptElement | null)?.src;

// ring is the worker's side.
export function ring(): boolean {
  if (!inWorker) return false;
  const timers = new Map<number, number>();
  addEventListener("message", (e: MessageEvent<[number, number]>) => {
    const [id, ms] = e.data;
    clearTimeout(timers.get(id));
    timers.delete(id);
    if (ms >= 0) timers.set(id, setTimeout(() => (timers.delete(id), postMessage(id)), ms) as unknown as number);
  });
  return true;
}

export class Clock {
  private worker: Worker | null = null;
  private ids = 0;
  private jobs = new Map<number, { job: () => void; ms: number; own: number }>();

  constructor() {
    if (!source || !globalThis.Worker) return;
    try {
      const w = new Worker(source);
      w.onmessage = (e: MessageEvent<number>) => this.run(e.data);
      w.onerror = (e) => {
        // No worker: the page's own timers have to do.
        e.preventDefault();
        this.worker = null;
        for (const [id, j] of this.jobs) j.own = setTimeout(() => this.run(id), j.ms) as unknown as number;
      };
      this.worker = w;
    } catch {
      // likewise
    }
  }

  after(ms: number, job: () => void): number {
    const id = ++this.ids;
    const j = { job, ms, own: 0 };
    this.jobs.set(id, j);
    if (this.worker) this.worker.postMessage([id, ms]);
    else j.own = setTimeout(() => this.run(id), ms) as unknown as number;
    return id;
  }

  cancel(id: number): void {
    const j = this.jobs.get(id);
    if (!j) return;
    this.jobs.delete(id);
    clearTimeout(j.own);
    this.worker?.postMessage([id, -1]);
  }

  private run(id: number): void {
    const j = this.jobs.get(id);
    this.jobs.delete(id);
    j?.job();
  }
}
