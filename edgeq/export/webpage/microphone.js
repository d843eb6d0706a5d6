// The microphone of this device at the model's rate; whatever goes wrong is said with its mend.

import { Resampler } from "./resample.js";

const CHUNK_SECONDS = 0.04;
const QUANTUM = 128; // samples that the audio thread hands on at a time
const START_SECONDS = 5; // Firefox waits for ever where the device has nothing to play to

/** Something that the page has to say of the microphone. */
export class MicrophoneError extends Error {}

export class Microphone {
  /**
   * Open it. rate: of the model, Hz. heard: called with chunks {samples, missing, heard}, mono, heard in ms of
   * Date.now(). lost: called with words where the sound ends or stands still. Fails with a MicrophoneError.
   */
  static async open(rate, heard, lost) {
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      throw new MicrophoneError(
        `Browsers give a microphone only to pages from https or localhost, and this one comes from ${location.origin}: ` +
          "serve it from there. Recordings work here.",
      );
    }
    let stream;
    try {
      // As it is: what makes speech pleasant for people takes away what models hear.
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
      stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    } catch (error) {
      throw new MicrophoneError(refused(error));
    }
    const microphone = new Microphone(stream);
    try {
      await microphone._connect(rate, heard, lost);
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  constructor(stream) {
    this._stream = stream;
    this._context = null;
    /** What it is called, and at which rate it is where that is not the model's. */
    this.name = stream.getAudioTracks()[0].label || "microphone";
  }

  close() {
    for (const track of this._stream.getTracks()) {
      track.onended = track.onmute = track.onunmute = null;
      track.stop();
    }
    if (this._context) {
      this._context.onstatechange = null;
      if (this._context.state !== "closed") this._context.close();
    }
  }

  async _connect(rate, heard, lost) {
    const source = this._source({ sampleRate: rate }) ?? this._source({});
    if (!source) {
      throw new MicrophoneError("This browser gives no sound from the microphone: try another, or choose a recording.");
    }
    const own = this._context.sampleRate;
    if (own !== rate) this.name += ` at ${own} Hz, converted to the model's ${rate} Hz`;
    await this._context.audioWorklet.addModule(new URL("./capture.js", import.meta.url));
    const length = Math.max(1, Math.round((CHUNK_SECONDS * own) / QUANTUM)) * QUANTUM;
    const node = new AudioWorkletNode(this._context, "capture", { numberOfOutputs: 0, processorOptions: { length } });
    const convert = own === rate ? (chunk) => chunk : converter(own, rate);
    node.port.onmessage = ({ data }) => heard(convert(data));
    source.connect(node);
    await started(this._context);
    const [track] = this._stream.getAudioTracks();
    track.onended = () => lost("The microphone is gone: plug it in again and press Listen.", true);
    track.onmute = () => lost("The microphone is muted by the system.", false);
    track.onunmute = () => lost("", false);
    this._context.onstatechange = () => {
      if (this._context.state !== "running") lost("The browser has paused the sound: press Listen again.", true);
    };
  }

  /** The microphone in a context of the rate asked for; null where this browser has not that rate, or, as Firefox,
   *  connects microphones only to contexts of their own. */
  _source(options) {
    try {
      this._context = new AudioContext({ ...options, latencyHint: "interactive" });
      if (this._context.sampleRate === (options.sampleRate ?? this._context.sampleRate)) {
        return this._context.createMediaStreamSource(this._stream);
      }
    } catch {
      // as above
    }
    this._context?.close();
    this._context = null;
    return null;
  }
}

/** Have a context run. Fails with a MicrophoneError where it does not in START_SECONDS. */
async function started(context) {
  const late = new MicrophoneError(
    "The browser's sound does not start; some need something to play to, too: connect loudspeakers or headphones and " +
      "press Listen, or choose a recording.",
  );
  let timer;
  const patience = new Promise((_, fail) => (timer = setTimeout(fail, 1000 * START_SECONDS, late)));
  try {
    await Promise.race([context.resume(), patience]);
  } finally {
    clearTimeout(timer);
  }
}

/** Chunks at one rate to chunks at another; what comes behind a gap does not go on from what was before it. */
function converter(from, to) {
  let resampler = new Resampler(from, to);
  return ({ samples, missing, heard }) => {
    if (missing) resampler = new Resampler(from, to);
    return { samples: resampler.push(samples), missing: Math.round((missing * to) / from), heard };
  };
}

function refused(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The microphone is denied: allow it for this page, beside the browser's address bar, and press Listen.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "There is no microphone: plug one in and press Listen, or choose a recording.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone does not start: another program may hold it. Close that one and press Listen.";
    default:
      return `The microphone does not start (${error.message}).`;
  }
}
