// The page: which of its parts are shown, and what they have to do with one another.

import { element } from "./elements.js";
import { wireLive } from "./live.js";
import { wireQueue } from "./queue.js";
import { health, setKey } from "./server.js";
import { TranscriptView } from "./transcript.js";

const AGAIN_MS = 2000;

let told = {};

/** Ask the server what it runs, until it does; ask for a key where it has one. */
async function greet() {
  try {
    told = await health();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the network's
    element("served-what").textContent = "the server cannot be reached";
    setTimeout(greet, AGAIN_MS);
    return;
  }
  const known = told.version !== undefined;
  element("key-form").hidden = known;
  element("workplace").hidden = !known;
  if (!known) {
    element("served-what").textContent = "it has a key";
    element("key").focus();
    return;
  }
  element("key-message").hidden = true;
  const states = { loading: "the model is being loaded", failed: "the model cannot be loaded; the server's log says why", stalled: "work stands still" };
  element("served-what").textContent = told.model ? `${told.model}, ${told.precision} on ${told.provider}` : (states[told.status] ?? "the model is loaded with the first recording");
  element("served-why").textContent = [told.reason, states[told.status], told.version && `stt ${told.version}`].filter(Boolean).join("; ");
  if (told.status === "loading") setTimeout(greet, AGAIN_MS);
}

function wireKey() {
  element("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    setKey(element("key").value);
    await greet();
    if (told.version === undefined) {
      element("key-message").textContent = "This is not the key.";
      element("key-message").hidden = false;
    }
  });
}

const view = new TranscriptView();
wireKey();
wireQueue(view, greet);
wireLive((json, sound) => view.show(sound, json, "Live"), () => told);
greet();
