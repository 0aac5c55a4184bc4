// Telling a fan who has asked for it that it is their turn: a sound, a vibration, a notification, whatever the device allows.

let audio: AudioContext | null = null;
let wanted = false;

// want is called from a click, since browsers allow sound and ask for permission only then.
export function want(): void {
  wanted = true;
  try {
    audio = audio || new AudioContext();
    void audio.resume();
  } catch {
    // no sound here
  }
  try {
    if (globalThis.Notification && Notification.permission === "default") void Notification.requestPermission();
  } catch {
    // no notifications here
  }
}

export function notice(title: string, body: string): void {
  if (!wanted) return;
  try {
    navigator.vibrate?.([200, 100, 200]);
  } catch {
    // no vibration here
  }
  if (audio) {
    // Two soft notes, a fourth apart.
    [523.25, 698.46].forEach((pitch, i) => {
      const at = (audio as AudioContext).currentTime + i * 0.35;
      const tone = (audio as AudioContext).createOscillator();
      const volume = (audio as AudioContext).createGain();
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0, at);
      volume.gain.linearRampToValueAtTime(0.25, at + 0.03);
      volume.gain.exponentialRampToValueAtTime(0.001, at + 0.8);
      tone.connect(volume).connect((audio as AudioContext).destination);
      tone.start(at);
      tone.stop(at + 0.9);
    });
  }
  try {
    if (document.hidden && globalThis.Notification?.permission === "granted") new Notification(title, { body, tag: "stanchion" });
  } catch {
    // Phones allow them from service workers only.
  }
}
