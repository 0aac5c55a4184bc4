// Several tabs of one room share one place, and one of them asks for all. Which one is settled by a lock that the browser gives to the next tab
// when its holder goes. Without locks or channels each tab looks after itself.

const locks: LockManager | undefined = globalThis.navigator?.locks;

export class Tabs<T> {
  leads = false;
  private channel: BroadcastChannel | null = null;

  constructor(
    private readonly name: string,
    heard: (news: T) => void,
    asked: () => void,
    lead: () => void,
  ) {
    if (!locks || !globalThis.BroadcastChannel) {
      this.leads = true;
      queueMicrotask(lead);
      return;
    }
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = (e: MessageEvent<{ ask?: true; news?: T }>) => {
      if (e.data?.ask) asked();
      else if (e.data?.news) heard(e.data.news);
    };
    locks
      .request(name, () => {
        this.leads = true;
        lead();
        return new Promise<void>(() => {}); // kept until the tab goes
      })
      .catch(() => {
        this.leads = true;
        lead();
      });
  }

  tell(news: T): void {
    this.channel?.postMessage({ news });
  }

  ask(): void {
    this.channel?.postMessage({ ask: true });
  }

  // alone runs a job in one tab at a time.
  alone(what: string, job: () => Promise<void>): Promise<void> {
    return locks ? (locks.request(this.name + "-" + what, job) as Promise<void>) : job();
  }
}
